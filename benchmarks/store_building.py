"""Speed and memory of `seqmlm prepare`, at two sizes: memory must not grow with the data.

The FASTA files are made by repeating ``--data`` with renamed ids. Beside it: tokenising alone,
and Biopython's parser alone, which is the floor of anything that reads with it.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from Bio.SeqIO.FastaIO import SimpleFastaParser

from benchmarks.record import (
    RESULTS,
    Elapsed,
    Spread,
    Stopwatch,
    describe_machine,
    peak_memory_mib,
    print_table,
    write_result,
)
from seqmlm.data.report import ReadReport
from seqmlm.data.text_source import open_text
from seqmlm.domain import Record, build_domain

NAME = "store_building"
LINE_WIDTH = 60
RECORDS_PER_BLOCK = 10_000
MB = 10**6


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """One measurement.

    Args:
        units: processed; bytes of FASTA, or residues.
        cpu_s: CPU seconds.
        wall_s: seconds.
        peak_mib: largest resident size of the process, where it is a process of its own.
    """

    units: int
    cpu_s: float
    wall_s: float
    peak_mib: float | None = None


def write_fasta(data: str, path: Path, *, size: int) -> None:
    """Repeat the records of ``data`` under new names until the file has ``size`` bytes."""
    with open_text(data) as text:
        records = list(SimpleFastaParser(text))
    if not records:
        raise SystemExit(f"{data}: no FASTA record.")
    wrapped = [
        (
            title.partition(" ")[0],
            "\n".join(
                sequence[start : start + LINE_WIDTH]
                for start in range(0, len(sequence), LINE_WIDTH)
            ),
        )
        for title, sequence in records
    ]
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for copy in itertools.count():
            for name, lines in wrapped:
                if written >= size:
                    return
                written += file.write(f">copy{copy}|{name}\n{lines}\n")


def measure_prepare(fasta: Path, folder: Path) -> Measured:
    """Run the command as a user would, in a process of its own, and watch its memory."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [
        *(sys.executable, "-m", "seqmlm", "prepare", str(fasta)),
        *("--domain", "protein", "--output", str(folder)),
    ]
    started, peak_mib = time.perf_counter(), 0.0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while True:
            finished, status, usage = os.wait4(process.pid, os.WNOHANG)
            if finished:
                break
            peak_mib = max(peak_mib, _peak_of_running(process.pid))
            time.sleep(0.02)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read()}")
    return Measured(fasta.stat().st_size, usage.ru_utime + usage.ru_stime, wall_s, peak_mib)


def measure_tokenising(fasta: Path) -> Measured:
    """Tokenise records that were read before the clock started."""
    domain = build_domain({"name": "protein"})
    with fasta.open(encoding="utf-8") as text:
        records = [
            Record(title, sequence, fasta.name, number)
            for number, (title, sequence) in enumerate(SimpleFastaParser(text), start=1)
        ]
    report, watch = ReadReport(), Stopwatch()
    residues = sum(
        len(domain.tokenize(records[start : start + RECORDS_PER_BLOCK], report).tokens)
        for start in range(0, len(records), RECORDS_PER_BLOCK)
    )
    return _measured(residues, watch.elapsed())


def measure_parser(fasta: Path) -> Measured:
    """Read all records with Biopython and drop them."""
    watch = Stopwatch()
    with fasta.open(encoding="utf-8") as text:
        for _ in SimpleFastaParser(text):
            pass
    return _measured(fasta.stat().st_size, watch.elapsed())


def measure_all(
    data: str, sizes_mb: Sequence[int], *, rounds: int, folder: Path
) -> dict[str, list[Measured]]:
    """Measure everything, once a round, in turn."""
    files = {size: folder / f"{size}.fasta" for size in sorted(set(sizes_mb))}
    for size, path in files.items():
        write_fasta(data, path, size=size * MB)
    smallest = files[min(files)]
    jobs: dict[str, Callable[[], Measured]] = {
        "parser alone": lambda: measure_parser(smallest),
        "tokenising alone": lambda: measure_tokenising(smallest),
    }
    for size, path in files.items():
        jobs[f"prepare {size} MB"] = lambda path=path: measure_prepare(  # type: ignore[misc]
            path, folder / "store"
        )
    found: dict[str, list[Measured]] = {name: [] for name in jobs}
    for number in range(1, rounds + 1):
        for name, job in jobs.items():
            print(f"round {number}: {name}", file=sys.stderr)
            found[name].append(job())
    return found


def summarise(found: Mapping[str, Sequence[Measured]]) -> dict[str, dict[str, Any]]:
    """Return millions of units per second, and the peak memory."""
    summary: dict[str, dict[str, Any]] = {}
    for name, rounds in found.items():
        peaks = [done.peak_mib for done in rounds if done.peak_mib is not None]
        summary[name] = {
            "unit": "M residues" if name.startswith("tokenising") else "MB of FASTA",
            "per_cpu_s": Spread.of([done.units / MB / done.cpu_s for done in rounds]),
            "per_wall_s": Spread.of([done.units / MB / done.wall_s for done in rounds]),
            "peak_mib": Spread.of(peaks) if peaks else None,
        }
    prepared = [rounds for name, rounds in found.items() if name.startswith("prepare")]
    if len(prepared) > 1:
        summary["prepare, start-up left out"] = _without_start(prepared[0], prepared[-1])
    return summary


def _without_start(small: Sequence[Measured], large: Sequence[Measured]) -> dict[str, Any]:
    """Speed by what the larger file took more than the smaller one."""
    pairs = list(zip(small, large, strict=True))
    return {
        "unit": "MB of FASTA",
        "per_cpu_s": Spread.of([(b.units - a.units) / MB / (b.cpu_s - a.cpu_s) for a, b in pairs]),
        "per_wall_s": Spread.of(
            [(b.units - a.units) / MB / (b.wall_s - a.wall_s) for a, b in pairs]
        ),
        "peak_mib": None,
    }


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="FASTA file, may be gzip-compressed")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[50, 200], metavar="MB",
        help="of the files to prepare",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    return parser.parse_args()


def main() -> None:
    """Measure, print and write the result."""
    arguments = parse_arguments()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="seqmlm-store-building-") as folder:
        found = measure_all(
            arguments.data, arguments.sizes, rounds=arguments.rounds, folder=Path(folder)
        )
    summary = summarise(found)
    print_table(
        "millions a second",
        ["", "unit", "CPU-second", "second", "peak MiB"],
        [
            [
                name,
                line["unit"],
                str(line["per_cpu_s"]),
                str(line["per_wall_s"]),
                "" if line["peak_mib"] is None else f"{line['peak_mib'].highest:,.0f}",
            ]
            for name, line in summary.items()
        ],
    )
    write_result(
        NAME, arguments.results,
        machine=machine,
        settings=vars(arguments) | {"data": Path(arguments.data).name},
        rounds={name: [dataclasses.asdict(done) for done in each] for name, each in found.items()},
        summary=summary,
    )  # fmt: skip


def _peak_of_running(pid: int) -> float:
    """Peak so far; 0 once the process has ended, when its last answer stands."""
    try:
        return peak_memory_mib(pid)
    except (ProcessLookupError, FileNotFoundError, LookupError):
        return 0.0


def _measured(units: int, elapsed: Elapsed) -> Measured:
    return Measured(units, elapsed.cpu_s, elapsed.wall_s)


if __name__ == "__main__":
    main()
