"""Is every kernel right on this GPU, and how fast is it beside its peers? Under nine minutes.

    python -m benchmarks.gpu                   from a checkout; torch and triton are all it needs
    python -m benchmarks.gpu --rehearse        every line of it, interpreted on a CPU, tiny shapes

Every section runs in processes of its own, so that a fault of the GPU, a hang or a missing peer
costs one section; what was measured until then is kept. The first step compiles in many processes
at once, and checks results; then one process at a time measures; checks that are not finished get
what is left of the time. ``PYTHONPATH`` may name folders with peers (Liger, cut cross-entropy,
transformers). The exit status is 1 if a kernel is wrong, or a check or a branch of the launchers
was not run, and 2 if there is no GPU.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from benchmarks.gpu import processes, report
from benchmarks.gpu.claims import Claims
from benchmarks.record import RESULTS

# Processes of the first step, which compiles: correctness counts, the others only fill the caches
# of the compilers, when a processor has nothing else to do.
PROCESSES = {
    "correctness": 12,
    "tuning": 4,
    "attention": 2,
    "rotary": 1,
    "cross_entropy": 2,
    "training_step": 2,
}
# Seconds of the second step, which measures; what it leaves of LIMIT_S is the first step's.
MEASURING_S = {
    "tuning": 50,
    "attention": 125,
    "cross_entropy": 65,
    "training_step": 120,
    "rotary": 20,
}
LIMIT_S = 530
_WARM_UP_NICENESS = 15
# Less is not worth the start of a process.
SHORTEST_S = 20


def main() -> int:
    """Run what was asked for; the exit status says whether every kernel is right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument(
        "--only", choices=PROCESSES, nargs="+", default=tuple(PROCESSES), metavar="SECTION"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    parser.add_argument("--section", choices=PROCESSES, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shard", type=int, nargs=2, default=(0, 1), help=argparse.SUPPRESS)
    parser.add_argument("--warm-up", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # Nothing need be installed.
    sys.path.insert(0, str(processes.REPOSITORY / "kernels"))
    if arguments.section is not None:
        return run_section(arguments)
    if not arguments.rehearse and why_no_gpu() is not None:
        print(f"python -m benchmarks.gpu: {why_no_gpu()}", file=sys.stderr)
        print("--rehearse runs everything on the CPU.", file=sys.stderr)
        return 2
    # Whoever stops this gets what was measured, and leaves nobody behind on the GPU.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory() as scratch:
        return run_all(arguments, Path(scratch))


def why_no_gpu() -> str | None:
    """What is missing for a run on a GPU: a package, a driver or the device; None if nothing is."""
    for package in ("torch", "triton"):
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed for {sys.executable}."
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built for the CPU alone; install one with CUDA."
    if shutil.which("nvidia-smi") is None:
        return "there is no NVIDIA driver: nvidia-smi is not found."
    return (
        f"torch {torch.__version__} for CUDA {torch.version.cuda} finds no device; does "
        "nvidia-smi list one, and is its driver new enough?"
    )


def run_section(arguments: argparse.Namespace) -> int:
    """Run one section, or a share of it, in this process."""
    from benchmarks.gpu.session import Session

    if arguments.warm_up:
        os.nice(_WARM_UP_NICENESS)
    index, count = arguments.shard
    session = Session(
        arguments.part, arguments.rehearse, shard=(index, count), is_warm_up=arguments.warm_up
    )
    section = importlib.import_module(f"benchmarks.gpu.{arguments.section}")
    section.run(session)
    return 0


def run_all(arguments: argparse.Namespace, scratch: Path) -> int:
    """Run the sections, write the results after each, and print the tables whatever happens."""
    started = time.monotonic()
    results = report.Results(arguments.results, is_rehearsal=arguments.rehearse)
    runner = processes.Runner(scratch, is_rehearsal=arguments.rehearse)

    def left_s() -> float:
        return LIMIT_S - (time.monotonic() - started)

    def run(shares: list[processes.Share]) -> None:
        for share, tables in runner.run_at_once(shares):
            # Of what only warms the caches nothing is kept.
            results.add(share.section, tables if not share.is_warm_up else {})

    try:
        shares = first_step(arguments.only)
        run(rehearsed(shares) if arguments.rehearse else shares)
        for section, limit_s in MEASURING_S.items():
            if section not in arguments.only:
                continue
            if left_s() < SHORTEST_S and not arguments.rehearse:
                row = {"what": section, "reason": "no time was left"}
                results.add(section, {"stopped": [row]})
                continue
            run([processes.Share(section, (0, 1), min(limit_s, left_s()), is_warm_up=False)])
        if results.unfinished() and left_s() > SHORTEST_S:
            Claims(scratch / "claims").release()
            run(shares_of("correctness", left_s()))
    finally:
        results.print_tables(elapsed_s=time.monotonic() - started)
    return 0 if results.is_right() else 1


def first_step(sections: Collection[str]) -> list[processes.Share]:
    """What runs at once: the checks, and what is compiled before it is measured."""
    limit_s = LIMIT_S - sum(MEASURING_S.get(section, 0) for section in sections)
    return [
        share
        for section in PROCESSES
        if section in sections
        for share in shares_of(section, limit_s)
    ]


def shares_of(section: str, limit_s: float) -> list[processes.Share]:
    """A section in as many processes as its first step has."""
    count = PROCESSES[section]
    return [
        processes.Share(section, (index, count), limit_s, is_warm_up=section != "correctness")
        for index in range(count)
    ]


def rehearsed(shares: list[processes.Share]) -> list[processes.Share]:
    """Every check in one process, and an eighth of a warm-up."""
    first = {share.section: share for share in shares if share.shard[0] == 0}
    shards = {"correctness": (0, 1), "attention": (0, 8)}
    return [replace(first[name], shard=shards[name]) for name in shards if name in first]


if __name__ == "__main__":
    sys.exit(main())
