"""Run all benchmarks, one after the other: a few minutes each, or the full ones with --full.

Without ``--data`` they run on the 600 proteins that come with the package: enough to see that they
work, too few for a learning curve that means anything.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.record import RESULTS
from seqmlm_domains.protein.domain import SAMPLES

FOLDER = Path(__file__).parent
BUNDLED = SAMPLES / "swissprot_archaea_600.fasta.gz"

QUICK: dict[str, list[str]] = {
    "training_throughput": ["--crops", "512", "--rounds", "2", "--proteins", "96"],
    "learning_curve": ["--steps", "50", "--peer"],
    "store_building": ["--sizes", "10", "40", "--rounds", "1"],
}
FULL: dict[str, list[str]] = {
    "training_throughput": ["--rounds", "7", "--proteins", "400"],
    "learning_curve": ["--steps", "600", "--seeds", "0", "1", "2", "--peer"],
    "store_building": ["--sizes", "50", "200", "800"],
}


def main() -> int:
    """Run each benchmark in a process of its own; returns the exit code of the first failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=str(BUNDLED), help="FASTA file, may be gzip-compressed")
    parser.add_argument("--clusters", help="'representative TAB member' table for the split")
    parser.add_argument("--full", action="store_true", help="hours instead of minutes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    # Threads that wait for one another by spinning would be counted as work.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    for name, options in (FULL if arguments.full else QUICK).items():
        command = [sys.executable, str(FOLDER / f"{name}.py"), "--data", arguments.data, *options]
        command += ["--results", str(arguments.results)]
        if name == "learning_curve" and arguments.clusters:
            command += ["--clusters", arguments.clusters]
        print(f"\n=== {name} ===", flush=True)
        finished = subprocess.run(command, env=environment, check=False)
        if finished.returncode:
            return finished.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
