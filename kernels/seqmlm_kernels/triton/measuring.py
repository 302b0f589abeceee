"""Which of several ways to launch a kernel is fastest on a device: each is run and timed."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from triton.errors import TritonError

from seqmlm_kernels.triton.launch import INTERPRETED

Launch = TypeVar("Launch")
# Of the largest number of a result: how far the results of two launches may lie apart.
_LARGEST_DIFFERENCE = 2e-2
ROUNDS = 1 if INTERPRETED else 15
# What the device does before each timed run, about half a millisecond, in which the host launches
# all of that: else a kernel shorter than its launch would be as fast as any other.
_LEAD_BYTES, _LEAD_TURNS = 1 << 28, 8


@dataclass(frozen=True)
class Measured(Generic[Launch]):
    """One candidate: its median time, or why it has none."""

    launch: Launch
    median_ms: float | None
    reason: str | None = None


def measured(
    run: Callable[[Launch], tuple[Tensor, ...]],
    launches: Sequence[Launch],
    device: torch.device,
    *,
    rounds: int = ROUNDS,
) -> list[Measured[Launch]]:
    """Time every candidate; all of them, fastest first.

    Args:
        run: gives the results of a launch.
        launches: the first one must run: results of the others are held against its own, and who
            differs is refused.
        rounds: runs of each that are timed, after the one that compiles.

    Raises:
        RuntimeError: none has a time.
    """
    expected = run(launches[0])
    found = [
        _measure(partial(run, launch), launch, expected, device, rounds) for launch in launches
    ]
    found.sort(key=lambda one: math.inf if one.median_ms is None else one.median_ms)
    if found[0].median_ms is None:
        raise RuntimeError(f"None of {len(found)} launches runs: {found[0].reason}.")
    return found


def _measure(
    run: Callable[[], tuple[Tensor, ...]],
    launch: Launch,
    expected: tuple[Tensor, ...],
    device: torch.device,
    rounds: int,
) -> Measured[Launch]:
    try:
        found = run()
    # More registers, shared memory or memory than there is, or a compiler that gives up.
    except (TritonError, RuntimeError) as error:
        return Measured(launch, None, str(error))
    for one, other in zip(found, expected, strict=True):
        difference = float((one.float() - other.float()).abs().max())
        if not difference <= _LARGEST_DIFFERENCE * float(other.abs().max()):
            return Measured(launch, None, f"differs by {difference:.3g} from the table's launch")
    return Measured(launch, statistics.median(_time_ms(run, device) for _ in range(rounds)))


def _time_ms(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cpu":
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) * 1e3
    events: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    lead = torch.empty(_LEAD_BYTES, dtype=torch.int8, device=device)
    for _ in range(_LEAD_TURNS):
        lead.zero_()
    events[0].record()
    run()
    events[1].record()
    torch.cuda.synchronize()
    return float(events[0].elapsed_time(events[1]))
