"""One section of the GPU benchmark in a process of its own, and what it writes down as it goes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class Session:
    """Rows by table, in a file that is complete after each of them.

    Args:
        part: JSON file of this process.
        is_rehearsal: tiny shapes, interpreted on the CPU, to run every line without a GPU.
        shard: (index, count): which share of the section's independent pieces is done here.
        is_warm_up: whether nothing is timed: everyone runs once, which fills compilers' caches.
    """

    part: Path
    is_rehearsal: bool
    shard: tuple[int, int] = (0, 1)
    is_warm_up: bool = False
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where everything is computed."""
        return torch.device("cpu" if self.is_rehearsal else "cuda")

    def mine(self, pieces: list[Any]) -> list[Any]:
        """The pieces that this shard does."""
        index, count = self.shard
        return pieces[index::count]

    def free_memory(self) -> None:
        """Give the memory that nothing uses back to the other processes."""
        if not self.is_rehearsal:
            torch.cuda.empty_cache()

    def stop_if_device_is_lost(self) -> None:
        """End this process if a fault of the device would make all that follows fail as well.

        Raises:
            SystemExit: the device refuses everything.
        """
        try:
            torch.zeros(1, device=self.device).item()
        except torch.OutOfMemoryError:
            return
        except RuntimeError as error:
            raise SystemExit(f"the device was lost: {reason_of(error)}") from error

    def record(self, table: str, **row: Any) -> None:
        """Keep a row, write all rows of this process, and print it."""
        self.tables.setdefault(table, []).append(row)
        unfinished = self.part.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(self.tables, indent=1))
        os.replace(unfinished, self.part)
        cells = (f"{name}={_cell(value)}" for name, value in row.items() if value is not None)
        print(f"{table}: {'  '.join(cells)}", flush=True)

    def attempt(self, what: str, action: Callable[[], object]) -> None:
        """Run a piece; if it fails, record why, so that the others still run."""
        try:
            action()
        except failures() as error:
            self.record("failures", what=what, reason=reason_of(error))
            print(f"{what} failed: {error!r}", file=sys.stderr, flush=True)


def failures() -> tuple[type[Exception], ...]:
    """What libraries raise where they cannot do what is asked of them; none of it is ours to mend.

    torch.compile and CUDA raise RuntimeError, memory that is not there is one, packages that are
    not installed are ImportError, and signatures that differ between versions TypeError.
    """
    from triton.errors import TritonError

    return (
        RuntimeError, ImportError, TypeError, ValueError, AttributeError, AssertionError,
        LookupError, TritonError,
    )  # fmt: skip


def reason_of(error: Exception) -> str:
    """The error as one short line."""
    if isinstance(error, ModuleNotFoundError):
        return f"not installed: {error.name}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 10 else f"{value:,.1f}"
    if isinstance(value, list):
        return f"{len(value)} of them"
    return str(value)
