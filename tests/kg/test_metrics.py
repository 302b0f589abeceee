from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.metrics import (
    RankingReport,
    RankMetrics,
    RankTypes,
    bootstrap_interval,
    copy_the_reverse,
    joined,
    relation_categories,
)
from seqmlm_domains.kg.ranking import Ranks


def ranks(optimistic: list[int], pessimistic: list[int], candidates: list[int]) -> Ranks:
    return Ranks(np.array(optimistic), np.array(pessimistic), np.array(candidates))


def test_the_measures_by_hand() -> None:
    found = RankMetrics.of(np.array([1.0, 2.5, 4.0, 20.0]), np.array([10, 10, 10, 30]))
    assert found.count == 4
    assert found.mrr == pytest.approx((1 + 0.4 + 0.25 + 0.05) / 4)
    assert (found.hits_at_1, found.hits_at_3, found.hits_at_10) == (0.25, 0.5, 0.75)
    assert found.mean_rank == pytest.approx(27.5 / 4)
    # Random ranks of 10 candidates have mean 5.5, of 30 mean 15.5: 8 on average.
    assert found.adjusted_mean_rank_index == pytest.approx(1 - (27.5 / 4 - 1) / (8 - 1))


def test_the_adjusted_index_is_1_for_perfect_and_0_for_random_ranks() -> None:
    candidates = np.array([3, 9])
    assert RankMetrics.of(np.ones(2), candidates).adjusted_mean_rank_index == 1
    random = RankMetrics.of((candidates + 1) / 2, candidates)
    assert random.adjusted_mean_rank_index == pytest.approx(0)
    worst = RankMetrics.of(candidates.astype(float), candidates)
    assert worst.adjusted_mean_rank_index == pytest.approx(-1)


def test_a_single_candidate_is_ranked_perfectly() -> None:
    assert RankMetrics.of(np.ones(1), np.ones(1, np.int64)).adjusted_mean_rank_index == 1


def test_nothing_is_known_without_ranks() -> None:
    found = RankMetrics.of(np.zeros(0), np.zeros(0, np.int64))
    assert found.count == 0
    assert math.isnan(found.mrr)


def test_ties_are_counted_in_three_ways() -> None:
    found = RankTypes.of(ranks([1, 1], [3, 1], [5, 5]))
    assert found.optimistic.mrr == 1
    assert found.realistic.mrr == pytest.approx((1 / 2 + 1) / 2)
    assert found.pessimistic.mrr == pytest.approx((1 / 3 + 1) / 2)
    assert found.tie_rate == 0.5
    chosen = RankTypes.of(ranks([1, 1], [3, 1], [5, 5]), np.array([False, True]))
    assert (chosen.realistic.count, chosen.tie_rate) == (1, 0)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20)), min_size=1, max_size=30))
def test_the_realistic_mrr_lies_between_the_others(drawn: list[tuple[int, int]]) -> None:
    low = [rank for rank, _ in drawn]
    found = RankTypes.of(ranks(low, [rank + ties for rank, ties in drawn], [100] * len(drawn)))
    assert found.pessimistic.mrr - 1e-12 <= found.realistic.mrr <= found.optimistic.mrr + 1e-12


def test_heads_come_before_tails() -> None:
    both = joined({Part.TAIL: ranks([3], [4], [5]), Part.HEAD: ranks([1], [2], [6])})
    assert both.optimistic.tolist() == [1, 3]
    assert both.pessimistic.tolist() == [2, 4]
    assert both.candidates.tolist() == [6, 5]


def test_the_bootstrap_interval_is_that_of_a_mean() -> None:
    """Of 400 draws from {0, 1} the mean has a standard error of 0.025."""
    values = np.tile([0.0, 1.0], 200)
    low, high = bootstrap_interval(values)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.008)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(np.ones(3)) == (1, 1)
    assert all(map(math.isnan, bootstrap_interval(np.zeros(0))))


def test_the_categories_of_relations() -> None:
    triples = [(0, 0, 1), (2, 0, 3)]  # one tail a head, one head a tail
    triples += [(0, 1, 1), (0, 1, 2)]  # two tails a head
    triples += [(1, 2, 0), (2, 2, 0)]  # two heads a tail
    triples += [(h, 3, t) for h in (0, 1) for t in (2, 3)]
    triples += [(0, 4, 1), (0, 4, 2), (3, 4, 4)]  # three tails for two heads: 1.5 is not many
    assert relation_categories(np.array(triples), 6) == ["1-1", "1-N", "N-1", "N-N", "1-1", "1-1"]


COUNTS = {part: ranks([1], [1], [10]) for part in (Part.HEAD, Part.TAIL)}


@pytest.mark.parametrize(
    ("training", "known", "expected"),
    [
        # 1 r 0 proposes 1 as the tail of (0 r ?), and 0 as the head of (? r 1): both right.
        ([(1, 0, 0)], [], (1 + 1) / 2),
        # 2 is proposed as tail too: two answers share the ranks 1 and 2. The head is right.
        ([(1, 0, 0), (2, 0, 0)], [], (1 / 1.5 + 1) / 2),
        # The same, but (0 r 2) is known: 2 is no candidate.
        ([(1, 0, 0), (2, 0, 0)], [(0, 0, 2)], (1 + 1) / 2),
        # Wrong proposals: the answer is one of the other 9, ranks 2 to 10. No proposal for heads.
        ([(2, 0, 0)], [], (1 / 6 + 1 / 5.5) / 2),
        # Another relation proposes nothing: the answer is one of 10.
        ([(1, 1, 0)], [], 1 / 5.5),
    ],
    ids=["right", "shared", "filtered", "wrong", "no proposal"],
)
@pytest.mark.parametrize("is_itself_known", [False, True])
def test_copying_the_reverse_by_hand(
    training: list[tuple[int, int, int]],
    known: list[tuple[int, int, int]],
    expected: float,
    is_itself_known: bool,
) -> None:
    """A test triple that was not itself among the known ones competed with its own answer."""
    asked = [(0, 0, 1)]
    found = copy_the_reverse(
        np.array(asked),
        np.array(training),
        COUNTS,
        known_triples=np.array([*training, *known, *asked * is_itself_known]),
    )
    assert found == pytest.approx(expected)


def test_a_report_is_json_without_nan() -> None:
    """NaN is no JSON, and readers other than Python's refuse it."""
    some, none = RankTypes.of(ranks([1], [1], [3])), RankTypes.of(ranks([], [], []))
    report = RankingReport(
        both=some, head=some, tail=some, mrr_interval=(math.nan, 1.0), by_relation={"r": none},
        by_category={"1-1": some}, unseen=none, unseen_answers=none,
        unseen_queries=none, copy_the_reverse=math.nan, collision_rate=0.0,
        name_tie_rate=0.0, num_entities=3,
    )  # fmt: skip
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert content["unseen"]["realistic"] == {
        "count": 0, "mrr": None, "hits_at_1": None, "hits_at_3": None, "hits_at_10": None,
        "mean_rank": None, "adjusted_mean_rank_index": None,
    }  # fmt: skip
    assert content["mrr_interval"] == [None, 1.0]
    assert content["both"]["realistic"]["mrr"] == 1.0
