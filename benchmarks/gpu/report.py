"""What a run of the GPU benchmark leaves: a JSON file that is rewritten as it grows, and tables."""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import describe_machine, print_table, write_result

_CLOCKS = (
    "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.draw,power.limit,"
    "temperature.gpu,utilization.gpu,memory.used"
)
# TFLOP/s of dense bf16.
_PEAKS = {"H100": 989.0, "H200": 989.0, "GH200": 989.0, "A100": 312.0, "B200": 2250.0}
# Tables of branches and checks, as `benchmarks.gpu.correctness` writes them.
_ALL, _RIGHT = "branches that there are", "branches that are right"
_CHECKS, _ENDED = "checks that there are", "checks that ended"
_MOST_NAMES = 20
_PACKAGES = ("torch", "triton", "transformers", "liger-kernel", "cut-cross-entropy")


class Results:
    """Tables of all sections, written to ``gpu-<card>-<date>.json`` after each of them."""

    def __init__(self, folder: Path, *, is_rehearsal: bool) -> None:
        self._folder = folder
        self._is_rehearsal = is_rehearsal
        self._clocks: list[dict[str, str]] = [{"after": "start", **read_clocks()}]
        self._machine = {**describe_machine(), **_device(is_rehearsal=is_rehearsal)}
        self._tables: dict[str, list[dict[str, Any]]] = {}

    def add(self, section: str, tables: Mapping[str, list[dict[str, Any]]]) -> None:
        """Keep what a section measured and write everything."""
        for name, rows in tables.items():
            self._tables.setdefault(name, []).extend(rows)
        self._clocks.append({"after": section, **read_clocks()})
        self._write()

    def is_right(self) -> bool:
        """Whether there are checks of correctness, all have ended and all passed.

        And whether every branch of the launchers was among them, except in a rehearsal.
        """
        is_known = {_ALL, _CHECKS} <= self._tables.keys()
        is_complete = is_known and not self.unfinished()
        took_all = self._is_rehearsal or not self.never_run()
        has_checks = bool(self._tables.get("correctness"))
        return has_checks and not self.is_wrong() and is_complete and took_all

    def is_wrong(self) -> bool:
        """Whether something that ran was wrong, raised an error or ended its process."""
        failures = self._tables.get("failures", [])
        return (
            bool(self._wrong_rows())
            or any("correctness" in str(row["what"]) for row in failures)
            or self._num_rejected() > 0
        )

    def unfinished(self) -> list[str]:
        """Checks that time or memory did not allow to end."""
        there_are = (name for row in self._tables.get(_CHECKS, []) for name in row["checks"])
        ended = {row["check"] for row in self._tables.get(_ENDED, [])}
        return [name for name in dict.fromkeys(there_are) if name not in ended]

    def never_run(self) -> list[str]:
        """Branches that no check that passed has taken, "dtype: branch" each."""
        there_are, right = (_branches(self._tables.get(name, [])) for name in (_ALL, _RIGHT))
        return sorted(there_are - right)

    def print_tables(self, *, elapsed_s: float) -> None:
        """Print what was wrong, times, goals, launches, and what may now be changed."""
        self._print_correctness()
        self._print_times()
        self._print_goals()
        for row in self._tables.get("tuned launches", []):
            gain = "" if row["speed_up"] is None else f"  # {row['speed_up']:.2f} of the table's"
            print(f"{row['row']}{gain}")
        for table, what in (("failures", "not run"), ("stopped", "not finished")):
            for row in self._tables.get(table, []):
                print(f"{what}: {row['what']}: {row['reason']}")
        for clocks in self._clocks:
            print("clocks", "  ".join(f"{name} {value}" for name, value in clocks.items()))
        print(f"\n{elapsed_s:.0f} seconds. {self.verdict()}")

    def verdict(self) -> str:
        """What the correctness of the kernels allows, with the line to change."""
        card = self._machine["card"]
        if self.is_wrong() or not self._tables.get("correctness"):
            return f"Verdict: the kernels are NOT proven on {card}; leave PROVEN_CAPABILITIES."
        if not self.is_right():
            return (
                f"Verdict: nothing that ran is wrong, but the kernels are NOT proven on {card}: "
                f"{len(self.unfinished())} checks were not finished and {len(self.never_run())} "
                "branches were not run. Leave PROVEN_CAPABILITIES, and give the checks all the "
                "time:\npython -m benchmarks.gpu --only correctness"
            )
        if self._is_rehearsal:
            return "Verdict: the rehearsal is right. It proves nothing about a GPU."
        capability = tuple(self._machine["compute_capability"])
        return (
            f"Verdict: every kernel is correct and deterministic on {card}. To let "
            "backend='auto' choose them there, add its capability in\n"
            "kernels/seqmlm_kernels/dispatch.py:\n"
            f"PROVEN_CAPABILITIES: frozenset[tuple[int, int]] = frozenset({{{capability}}})"
        )

    def _write(self) -> None:
        from benchmarks.gpu.goals import outcomes

        card = str(self._machine["card"]).replace(" ", "_")
        name = f"gpu-{card}" + ("-rehearsal" if self._is_rehearsal else "")
        write_result(
            name,
            self._folder,
            machine=self._machine,
            settings={"clocks": self._clocks},
            rounds=self._tables,
            summary={
                "is_right": self.is_right(),
                "is_wrong": self.is_wrong(),
                "checks not finished": self.unfinished(),
                "branches never run": self.never_run(),
                "goals": outcomes(self._tables.get("times", []), peak_tflops=self._peak_tflops()),
            },
        )

    def _wrong_rows(self) -> list[dict[str, Any]]:
        rows = self._tables.get("correctness", [])
        return [
            row for row in rows if not (row["is_accepted"] and row.get("is_deterministic", True))
        ]

    def _num_rejected(self) -> int:
        return sum(row["count"] for row in self._tables.get("rejected targets", []))

    def _print_correctness(self) -> None:
        rows, wrong = self._tables.get("correctness", []), self._wrong_rows()
        print(f"\ncorrectness: {len(rows) - len(wrong)} of {len(rows)} checks passed")
        for row in wrong:
            print("WRONG", row)
        unfinished = self.unfinished()
        if unfinished:
            print(f"not finished: {len(unfinished)} checks, of which the first are")
        for name in unfinished[:_MOST_NAMES]:
            print("NOT FINISHED", name)
        missing = self.never_run()
        there_are = len(_branches(self._tables.get(_ALL, [])))
        print(f"branches: {there_are - len(missing)} of {there_are} ran and were right")
        for branch in () if self._is_rehearsal else missing:
            print("NEVER RUN", branch)

    def _print_times(self) -> None:
        columns = ("median_ms", "lowest_ms", "graph_ms", "extra_mib", "tflops", "tokens_per_s")
        times = self._tables.get("times", [])
        for case in dict.fromkeys(row["case"] for row in times):
            mine = [row for row in times if row["case"] == case]
            lines = [
                [row["contestant"], *(_number(row.get(column)) for column in columns)]
                if "failure" not in row
                else [f"{row['contestant']}: {row['failure'][:80]}", *[""] * len(columns)]
                for row in mine
            ]
            print_table(f"{case}{self._utilisation(mine)}", ["", *columns], lines)

    def _peak_tflops(self) -> float | None:
        card = str(self._machine["card"])
        return next((peak for name, peak in _PEAKS.items() if name in card), None)

    def _utilisation(self, rows: Sequence[Mapping[str, Any]]) -> str:
        peak = self._peak_tflops()
        rate = next((row.get("tflops") for row in rows if row["contestant"] == "seqmlm"), None)
        return "" if peak is None or rate is None else f" (seqmlm: {rate / peak:.0%} of peak)"

    def _print_goals(self) -> None:
        from benchmarks.gpu.goals import outcomes

        lines = [
            [
                f"{row['case']}: {row['ours']} vs {row['peer']}, {row['quantity']}",
                "" if row["goal"] is None else f"{row['goal']:.2f}",
                _number(row["ratio"]),
                row["verdict"],
            ]
            for row in outcomes(self._tables.get("times", []), peak_tflops=self._peak_tflops())
        ]
        print_table("goals: ours is so many times as good", ["", "goal", "found", ""], lines)


def read_clocks() -> dict[str, str]:
    """Clocks, power and temperature of the first GPU; empty where there is none to ask."""
    command = ["nvidia-smi", f"--query-gpu={_CLOCKS}", "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return {}
    values = (value.strip() for value in answer.stdout.strip().split(","))
    return dict(zip(_CLOCKS.split(","), values, strict=False))


def _branches(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    return {f"{row['dtype']}: {name}" for row in rows for name in row["branches"]}


def _device(*, is_rehearsal: bool) -> dict[str, Any]:
    import torch

    packages = {name: _version(name) for name in _PACKAGES}
    if is_rehearsal:
        return {**packages, "card": "cpu"}
    properties = torch.cuda.get_device_properties(0)
    return {
        **packages,
        "card": properties.name,
        "compute_capability": [properties.major, properties.minor],
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": properties.total_memory / 2**30,
        "cuda": torch.version.cuda,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
