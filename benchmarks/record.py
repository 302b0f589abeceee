"""What every benchmark writes down: the machine, the settings, the raw rounds, the ratios."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
"""Where results go unless ``--results`` says otherwise."""

PACKAGES = ("torch", "transformers", "numpy", "biopython")


@dataclass(frozen=True, slots=True)
class Spread:
    """What is told of repeated measurements.

    Args:
        median: of all.
        lowest: of all.
        highest: of all.
    """

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:,.2f} ({self.lowest:,.2f} to {self.highest:,.2f})"


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Time between two moments of this process.

    Args:
        cpu_s: CPU seconds, summed over the threads of the process.
        wall_s: seconds.
    """

    cpu_s: float
    wall_s: float


class Stopwatch:
    """Measures from its construction on."""

    def __init__(self) -> None:
        self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()

    def elapsed(self) -> Elapsed:
        """Return the time since construction."""
        return Elapsed(time.process_time() - self._cpu_s, time.perf_counter() - self._wall_s)


def describe_machine() -> dict[str, Any]:
    """Return what a reader needs in order to judge timings: hardware, versions, load, commit."""
    installed = {name: _version(name) for name in PACKAGES}
    threads = None
    if "torch" in sys.modules:
        threads = sys.modules["torch"].get_num_threads()
    return {
        **_processor(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **installed,
        "torch_threads": threads,
        "environment": {
            name: os.environ[name]
            for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS")
            if name in os.environ
        },
        "load_average": list(os.getloadavg()),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
    }


def write_result(
    name: str,
    folder: Path,
    *,
    machine: Mapping[str, Any],
    settings: Mapping[str, Any],
    rounds: Any,
    summary: Any,
) -> Path:
    """Write ``<name>-<date>.json``, replacing that of an earlier run of the same day.

    Args:
        name: of the benchmark.
        folder: created if absent.
        machine: of :func:`describe_machine`, asked at the start: the load is that of others then.
        settings: every choice of the run.
        rounds: the raw measurements.
        summary: what the printed table says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{machine['date'][:10]}.json"
    content = {
        "benchmark": name,
        "machine": machine,
        "settings": settings,
        "summary": summary,
        "rounds": rounds,
    }
    path.write_text(json.dumps(content, indent=1, default=_plain) + "\n", encoding="utf-8")
    print(f"\nwritten: {path}")
    return path


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; the first is text, the others are numbers."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    print(f"\n{title}")
    for line in [header, ["-" * width for width in widths], *rows]:
        first, *others = zip(line, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        print("  ".join(cells).rstrip())


def peak_memory_mib(process: int | str = "self") -> float:
    """Return the largest resident size so far of a Linux process, MiB.

    Read from ``/proc/<pid>/status``: the ``ru_maxrss`` of a child process starts at the resident
    size of its parent, because Linux carries it over ``exec``.

    Raises:
        OSError: the process is gone, or this is not Linux.
        LookupError: the process has ended and waits to be collected.
    """
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(iter(_field(lines, "VmHWM")), "").split()[0]) / 1024


def reset_peak_memory() -> None:
    """Let the peak of this process start again at its present resident size."""
    Path("/proc/self/clear_refs").write_text("5")


def _field(lines: Sequence[str], name: str) -> list[str]:
    return [line.partition(":")[2].strip() for line in lines if line.partition(":")[0] == name]


def _processor() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    fields: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), []).append(value.strip())
    models = fields.get("model name", [platform.processor()])
    wide = {"avx2", "avx512f", "avx512_bf16", "amx_tile"}
    return {
        "processor": models[0],
        "processor_family_model": [
            fields[name][0] for name in ("vendor_id", "cpu family", "model") if name in fields
        ],
        "processors": os.cpu_count(),
        "instruction_sets": sorted(wide & set(" ".join(fields.get("flags", [])).split())),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout, marked if files differ from it; None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent)]
    try:
        found = subprocess.run(
            [*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*command, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def _plain(value: object) -> Any:
    if isinstance(value, Spread | Elapsed):
        return asdict(value)
    if isinstance(value, Path):
        return value.name
    raise TypeError(f"{value!r} is not plain data")
