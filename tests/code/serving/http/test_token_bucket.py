from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm_domains.code.serving.http.token_bucket import TokenBuckets


def test_a_burst_is_let_through_and_the_next_waits_for_a_token() -> None:
    buckets = TokenBuckets(tokens_per_s=2.0, burst=3)

    assert [buckets.take("a", now_s=0.0) for _ in range(3)] == [0.0] * 3
    assert buckets.take("a", now_s=0.0) == 0.5
    assert buckets.take("a", now_s=0.25) == pytest.approx(0.25)
    assert buckets.take("a", now_s=0.5) == 0.0


def test_clients_have_buckets_of_their_own() -> None:
    buckets = TokenBuckets(tokens_per_s=1.0, burst=1)
    buckets.take("a", now_s=0.0)

    assert buckets.take("b", now_s=0.0) == 0.0


def test_a_bucket_never_holds_more_than_a_burst() -> None:
    buckets = TokenBuckets(tokens_per_s=10.0, burst=2)
    buckets.take("a", now_s=0.0)
    waits = [buckets.take("a", now_s=1_000.0) for _ in range(3)]

    assert waits == [0.0, 0.0, pytest.approx(0.1)]


def test_the_oldest_of_very_many_clients_is_forgotten() -> None:
    buckets = TokenBuckets(tokens_per_s=0.001, burst=1)
    buckets.take("first", now_s=0.0)
    for number in range(4_096):
        buckets.take(str(number), now_s=0.0)

    assert buckets.take("4095", now_s=0.0) > 0
    assert buckets.take("first", now_s=0.0) == 0.0


@given(
    steps_s=st.lists(st.floats(0, 5, allow_nan=False), max_size=60),
    tokens_per_s=st.floats(0.1, 20),
    burst=st.integers(1, 10),
)
def test_no_more_than_the_burst_and_the_rate_are_let_through(
    steps_s: list[float], tokens_per_s: float, burst: int
) -> None:
    buckets = TokenBuckets(tokens_per_s=tokens_per_s, burst=burst)
    now_s, let_through = 0.0, 0
    for step_s in steps_s:
        now_s += step_s
        let_through += buckets.take("a", now_s=now_s) == 0

    assert let_through <= burst + now_s * tokens_per_s + 1e-6
