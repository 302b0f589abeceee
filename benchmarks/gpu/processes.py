"""Sections in processes of their own, several at once or one after the other, each with a limit."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
# Whatever else the machine does, only the speed of a GPU is measured in a limited time.
_REHEARSAL_LIMIT_S = 3600
Tables = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Share:
    """A section, or one of several shares of it.

    Args:
        shard: (index, count).
        limit_s: after which it is stopped; what it wrote until then counts.
        is_warm_up: whether it only compiles what a later process will measure.
    """

    section: str
    shard: tuple[int, int]
    limit_s: float
    is_warm_up: bool


class Runner:
    """Starts processes and collects what they wrote.

    Args:
        scratch: empty folder for parts, logs and the launches that are tuned.
        is_rehearsal: whether they interpret on the CPU.
    """

    def __init__(self, scratch: Path, *, is_rehearsal: bool) -> None:
        self._scratch = scratch
        self._is_rehearsal = is_rehearsal
        self._num_started = 0

    def run_at_once(self, shares: Sequence[Share]) -> Iterator[tuple[Share, Tables]]:
        """Start all, and give the tables of each once it has ended, in the order given.

        Who fails is in its table "failures", whom the clock stopped in "stopped".
        """
        started = time.monotonic()
        running = [(share, *self._start(share)) for share in shares]
        try:
            while running:
                share, process, part = running[0]
                limit_s = _REHEARSAL_LIMIT_S if self._is_rehearsal else share.limit_s
                left_s = max(0.1, limit_s - (time.monotonic() - started))
                table, reason = "failures", None
                try:
                    if process.wait(timeout=left_s):
                        reason = f"exit status {process.returncode}: {self._last_line(part)}"
                except subprocess.TimeoutExpired:
                    table, reason = "stopped", f"stopped after {limit_s:.0f} seconds"
                end_with_children(process)
                running.pop(0)
                tables: Tables = json.loads(part.read_text()) if part.is_file() else {}
                if reason is not None:
                    where = f"{share.section}, share {share.shard[0] + 1} of {share.shard[1]}"
                    tables.setdefault(table, []).append({"what": where, "reason": reason})
                yield share, tables
        finally:
            for _, process, _ in running:
                end_with_children(process)

    def _start(self, share: Share) -> tuple[subprocess.Popen[str], Path]:
        index, count = share.shard
        self._num_started += 1
        name = f"{self._num_started}-{share.section}-{index}-of-{count}"
        part = self._scratch / f"{name}.json"
        command = [
            sys.executable, "-m", "benchmarks.gpu", "--section", share.section,
            "--part", str(part), "--shard", str(index), str(count),
            *(["--rehearse"] if self._is_rehearsal else []),
            *(["--warm-up"] if share.is_warm_up else []),
        ]  # fmt: skip
        # Launches tuned while others compile mean nothing: they go to a cache of their own.
        launches = self._scratch / (name if share.is_warm_up else "launches")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                filter(
                    None,
                    [
                        str(REPOSITORY),
                        str(REPOSITORY / "kernels"),
                        os.environ.get("PYTHONPATH", ""),
                    ],
                )
            ),
            "SEQMLM_KERNEL_CACHE": str(launches),
            # Or every process would start as many compilers as the machine has cores.
            "TORCHINDUCTOR_COMPILE_THREADS": "4",
        }
        environment.pop("TRITON_INTERPRET", None)
        if self._is_rehearsal:
            environment["TRITON_INTERPRET"] = "1"
        with open(part.with_suffix(".log"), "w") as log:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=environment,
                text=True,
                stdout=log if share.is_warm_up or count > 1 else None,
                stderr=log,
                process_group=0,
            )
        return process, part

    @staticmethod
    def _last_line(part: Path) -> str:
        lines = part.with_suffix(".log").read_text().strip().splitlines()
        return lines[-1][:300] if lines else "nothing was printed"


def end_with_children(process: subprocess.Popen[str]) -> None:
    """Kill a process that leads a group and all of it: compilers that it started would live on."""
    with contextlib.suppress(ProcessLookupError):  # all of them have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
