"""Is every kernel right on this GPU, and how fast is it beside its peers? Under nine minutes.

    python -m benchmarks.gpu                   from a checkout; torch and triton are all it needs
    python -m benchmarks.gpu --rehearse        every line of it, interpreted on a CPU, tiny shapes

Every section runs in processes of its own, so that a fault of the GPU, a hang or a missing peer
costs one section; what was measured until then is kept. The first step compiles in many processes
at once, and checks results; then one process at a time measures. ``PYTHONPATH`` may name folders
with peers (Liger, cut cross-entropy, transformers). The exit status is 1 if a kernel is wrong or a
branch of the launchers was never run, and 2 if there is no GPU.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.gpu import processes, report
from benchmarks.record import RESULTS

SECTIONS = ("correctness", "tuning", "attention", "cross_entropy", "training_step")
# (section, processes, seconds) of the first step, which compiles: correctness counts, the others
# only fill the caches of the compilers.
FIRST_STEP = (
    ("correctness", 10, 160),
    ("tuning", 6, 160),
    ("attention", 2, 160),
    ("cross_entropy", 2, 160),
    ("training_step", 2, 160),
)
SECOND_STEP = (("tuning", 60), ("attention", 120), ("cross_entropy", 70), ("training_step", 130))
LIMIT_S = 530


def main() -> int:
    """Run what was asked for; the exit status says whether every kernel is right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--only", choices=SECTIONS, nargs="+", default=SECTIONS, metavar="SECTION")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
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

    index, count = arguments.shard
    session = Session(
        arguments.part, arguments.rehearse, shard=(index, count), is_warm_up=arguments.warm_up
    )
    section = importlib.import_module(f"benchmarks.gpu.{arguments.section}")
    section.run(session)
    return 0


def run_all(arguments: argparse.Namespace, scratch: Path) -> int:
    """Run the sections, write the results after each, and print the tables at the end."""
    started = time.monotonic()
    results = report.Results(arguments.results, is_rehearsal=arguments.rehearse)
    runner = processes.Runner(scratch, is_rehearsal=arguments.rehearse)
    first = [entry for entry in FIRST_STEP if entry[0] in arguments.only]
    shares = [
        processes.Share(section, (index, count), limit_s, is_warm_up=section != "correctness")
        for section, count, limit_s in first
        for index in range(count)
    ]
    if arguments.rehearse:
        shares = rehearsed(shares)
    for share, tables in runner.run_at_once(shares):
        # Of what only warms the caches nothing is kept.
        results.add(share.section, tables if not share.is_warm_up else {})
    for section, limit_s in SECOND_STEP:
        left_s = LIMIT_S - (time.monotonic() - started)
        if section not in arguments.only:
            continue
        if left_s < 20 and not arguments.rehearse:
            results.add(section, {"failures": [{"what": section, "reason": "no time was left"}]})
            continue
        share = processes.Share(section, (0, 1), min(limit_s, left_s), is_warm_up=False)
        for _, tables in runner.run_at_once([share]):
            results.add(section, tables)
    results.print_tables(elapsed_s=time.monotonic() - started)
    return 0 if results.is_right() else 1


def rehearsed(shares: list[processes.Share]) -> list[processes.Share]:
    """Every check in one process, and an eighth of a warm-up."""
    first = {share.section: share for share in shares if share.shard[0] == 0}
    shards = {"correctness": (0, 1), "attention": (0, 8)}
    return [replace(first[name], shard=shards[name]) for name in shards if name in first]


if __name__ == "__main__":
    sys.exit(main())
