from __future__ import annotations

import math

import pytest

from seqmlm_domains.code.serving.queue_statistics import (
    LATENCY_BOUNDS_S,
    LatencyHistogram,
    Outcome,
    QueueStatistics,
)


def histogram(*latencies_s: float) -> LatencyHistogram:
    made = LatencyHistogram()
    for latency_s in latencies_s:
        made.add(latency_s)
    return made


def test_a_latency_counts_in_the_bucket_whose_upper_bound_it_does_not_exceed() -> None:
    counts = histogram(0.0, 0.005, 0.0051, 5.0, 5.1).counts

    assert counts[0] == 2
    assert counts[1] == 1
    assert counts[-2:] == [1, 1]
    assert sum(counts) == 5


@pytest.mark.parametrize(
    ("latencies_s", "quantile", "expected_s"),
    [
        pytest.param((0.004, 0.004, 0.09), 0.5, 0.005, id="median-of-three"),
        pytest.param((0.004, 0.004, 0.09), 1.0, 0.1, id="slowest"),
        pytest.param((*(0.045,) * 95, *(0.14,) * 5), 0.95, 0.05, id="exactly-95-of-100"),
        pytest.param((*(0.045,) * 94, *(0.14,) * 6), 0.95, 0.15, id="94-of-100"),
        pytest.param((9.0,), 0.5, math.inf, id="past-the-last-bound"),
    ],
)
def test_a_quantile_is_the_bound_of_its_bucket(
    latencies_s: tuple[float, ...], quantile: float, expected_s: float
) -> None:
    assert histogram(*latencies_s).quantile_s(quantile) == expected_s


def test_no_latencies_have_no_quantile() -> None:
    assert math.isnan(LatencyHistogram().quantile_s(0.5))


def test_a_copy_does_not_grow_with_its_original() -> None:
    original = histogram(0.01)
    copy = original.copy()
    original.add(0.01)

    assert sum(copy.counts) == 1
    assert copy.total_s == 0.01


def test_the_bounds_hold_the_targets_of_an_editor() -> None:
    assert {0.05, 0.15, 0.3} <= set(LATENCY_BOUNDS_S)
    assert list(LATENCY_BOUNDS_S) == sorted(LATENCY_BOUNDS_S)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_answers_have_a_latency(outcome: Outcome) -> None:
    statistics = QueueStatistics()
    statistics.end(outcome, latency_s=0.02)

    assert statistics.ended[outcome] == 1
    is_answer = outcome in (Outcome.BY_MODEL, Outcome.LEXICAL)
    assert sum(statistics.latency.counts) == int(is_answer)
