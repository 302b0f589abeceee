"""Interleaved medians: everyone takes a turn in each round, so that a change of clock hits all.

Before every turn the level 2 cache is overwritten. Times are of CUDA events and hold the launches
of the host, which are most of a small case; of those a CUDA graph, which holds none, takes a turn
as well. Memory is the peak above what was allocated before.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.session import Session, failures, reason_of

_WARM_UP_RUNS = 3
_FLUSHED_BYTES = 256 << 20
_MOST_ROUNDS = 50
_FEWEST_ROUNDS = 30
_TARGET_S = 2.0


@dataclass(frozen=True)
class Contestant:
    """Someone who takes part.

    Args:
        name: under which results are compared.
        make: prepares what is not timed, and returns what is.
        compiles: whether its first run fills the cache of a compiler.
    """

    name: str
    make: Callable[[], Callable[[], object]]
    compiles: bool = True


def with_tuned_launches(turn: Callable[[], object]) -> object:
    """Take a turn with the launches that the section "tuning" kept, not those of the tables."""
    os.environ["SEQMLM_AUTOTUNE"] = "1"
    try:
        return turn()
    finally:
        os.environ["SEQMLM_AUTOTUNE"] = "0"


def race(
    session: Session,
    case: str,
    contestants: Sequence[Contestant],
    *,
    flop: float | None = None,
    tokens: int | None = None,
    graphed: Collection[str] = (),
) -> None:
    """Record one row per contestant in the table "times"; who cannot run is recorded as such.

    Args:
        case: names the rows.
        flop: useful floating-point operations of a run, for a rate.
        tokens: of a run, for a rate.
        graphed: contestants of whom a CUDA graph is timed as well, where one can be captured.
    """
    # Or the many shapes of the peers' functions would reach torch.compile's limit per function.
    torch.compiler.reset()
    if session.is_warm_up:
        for contestant in session.mine([one for one in contestants if one.compiles]):
            session.attempt(f"{case}, {contestant.name}", partial(_run_once, contestant))
            session.free_memory()
        return
    clock = _Clock(session)
    racing = _line_up(session, case, contestants, clock, graphed)
    for _ in range(_rounds(session, clock, racing)):
        for one in racing:
            one.times_ms.append(clock.time_ms(one.run))
            if one.replay is not None:
                one.graph_times_ms.append(clock.time_ms(one.replay))
    for one in racing:
        median = statistics.median(one.times_ms)
        session.record(
            "times",
            case=case,
            contestant=one.name,
            median_ms=median,
            lowest_ms=min(one.times_ms),
            highest_ms=max(one.times_ms),
            rounds=len(one.times_ms),
            graph_ms=statistics.median(one.graph_times_ms) if one.graph_times_ms else None,
            graph_failure=one.graph_failure,
            extra_mib=one.extra_mib,
            tflops=None if flop is None else flop / median / 1e9,
            tokens_per_s=None if tokens is None else tokens / median * 1e3,
        )
    racing.clear()
    session.free_memory()


@dataclass(frozen=True)
class _Racing:
    """A contestant that can run, its memory and its times, and its graph or why it has none."""

    name: str
    run: Callable[[], object]
    extra_mib: float | None
    replay: Callable[[], object] | None
    graph_failure: str | None
    times_ms: list[float]
    graph_times_ms: list[float] = field(default_factory=list)


def _line_up(
    session: Session,
    case: str,
    contestants: Sequence[Contestant],
    clock: _Clock,
    graphed: Collection[str],
) -> list[_Racing]:
    """Let everyone run a few times; record why those who cannot run do not take part."""
    racing = []
    for contestant in contestants:
        try:
            run = contestant.make()
            warm_up = [
                clock.time_ms(run) for _ in range(1 if session.is_rehearsal else _WARM_UP_RUNS)
            ]
            extra_mib = _extra_mib(session, run)
            replay = failure = None
            if contestant.name in graphed and not session.is_rehearsal:
                replay, failure = _captured(run)
            # A rehearsal takes as long as it must, and no longer.
            times_ms = warm_up if session.is_rehearsal else []
            racing.append(_Racing(contestant.name, run, extra_mib, replay, failure, times_ms))
        except failures() as error:
            session.record("times", case=case, contestant=contestant.name, failure=reason_of(error))
            session.free_memory()
    return racing


def _run_once(contestant: Contestant) -> None:
    contestant.make()()


class _Clock:
    """Times one run on the device of the session, the cache flushed before."""

    def __init__(self, session: Session) -> None:
        self._is_rehearsal = session.is_rehearsal
        self._cache = torch.empty(
            1 if session.is_rehearsal else _FLUSHED_BYTES, dtype=torch.int8, device=session.device
        )

    def time_ms(self, run: Callable[[], object]) -> float:
        self._cache.zero_()
        if self._is_rehearsal:
            started_s = time.perf_counter()
            run()
            return (time.perf_counter() - started_s) * 1e3
        start: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end))


def _rounds(session: Session, clock: _Clock, racing: Sequence[_Racing]) -> int:
    """As many as take about _TARGET_S, within bounds."""
    if session.is_rehearsal or not racing:
        return 0
    one_round_s = sum(clock.time_ms(one.run) for one in racing) / 1e3
    return max(_FEWEST_ROUNDS, min(_MOST_ROUNDS, int(_TARGET_S / max(one_round_s, 1e-6))))


def _captured(run: Callable[[], object]) -> tuple[Callable[[], object] | None, str | None]:
    """A CUDA graph of the run to replay, or why there is none."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            run()
    except failures() as error:
        torch.cuda.synchronize()
        return None, reason_of(error)
    return graph.replay, None


def _extra_mib(session: Session, run: Callable[[], object]) -> float | None:
    if session.is_rehearsal:
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = run()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    del result
    return peak / 2**20
