"""What a completion queue has done so far: counts of outcomes, and a histogram of latencies."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from typing import Final

LATENCY_BOUNDS_S: Final = (
    0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0,
)  # fmt: skip
"""Upper bounds of the latency buckets, seconds: close together around the targets of 50, 150 and
300 ms; what is slower than the last goes to an unbounded bucket."""


@dataclass(slots=True)
class LatencyHistogram:
    """Latencies counted by bucket: constant memory, however many there are.

    Args:
        counts: of latencies in each bucket, the unbounded one last; not cumulative.
        total_s: sum of all latencies, seconds.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))
    total_s: float = 0.0

    def add(self, latency_s: float) -> None:
        """Count one latency."""
        self.counts[bisect_left(LATENCY_BOUNDS_S, latency_s)] += 1
        self.total_s += latency_s

    def quantile_s(self, quantile: float) -> float:
        """Return the upper bound of the bucket that holds a quantile, seconds.

        Args:
            quantile: in (0, 1]: 0.5 asks for the median.

        Returns:
            A bound of :data:`LATENCY_BOUNDS_S`; infinity past the last one; NaN without latencies.
        """
        cumulative = list(accumulate(self.counts))
        if not cumulative[-1]:
            return math.nan
        bucket = bisect_left(cumulative, quantile * cumulative[-1])
        return LATENCY_BOUNDS_S[bucket] if bucket < len(LATENCY_BOUNDS_S) else math.inf

    def copy(self) -> LatencyHistogram:
        """Return the same counts, which further latencies do not change."""
        return LatencyHistogram(list(self.counts), self.total_s)


class Outcome(StrEnum):
    """How a request that was accepted has ended."""

    BY_MODEL = "by_model"
    """Answered by the completer's batch, in time."""
    LEXICAL = "lexical"
    """Answered without the neural model, because the deadline had passed."""
    CANCELLED = "cancelled"
    """Given up by the caller."""
    SUPERSEDED = "superseded"
    """Replaced by a newer request of the same document before its turn came."""
    FAILED = "failed"
    """Ended by an error."""


@dataclass(slots=True, kw_only=True)
class QueueStatistics:
    """Counts since the queue was made, and its state at the moment of asking.

    Args:
        accepted: requests that got a place.
        rejected: requests that got none, since the queue was full.
        ended: accepted requests that have ended, by outcome.
        unanswered: accepted requests that have not.
        waiting: those of them that no batch has taken yet.
        batches: forward passes, that is, calls of ``complete_batch``.
        batched: requests that these answered.
        latency: from acceptance to the answer, of what was answered.
    """

    accepted: int = 0
    rejected: int = 0
    ended: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    unanswered: int = 0
    waiting: int = 0
    batches: int = 0
    batched: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)

    def end(self, outcome: Outcome, *, latency_s: float) -> None:
        """Count the end of a request, and its latency if that was an answer."""
        self.ended[outcome] += 1
        if outcome in (Outcome.BY_MODEL, Outcome.LEXICAL):
            self.latency.add(latency_s)
