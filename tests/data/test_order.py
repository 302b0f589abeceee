"""The order of records: complete, bounded, and a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.data.order import EpochOrder, deal

CORPORA = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5)), min_size=1, max_size=80)
SEEDS = st.integers(0, 2**63 - 1)


def order_of(corpus: list[tuple[int, int]], **changes: Any) -> EpochOrder:
    """Records of (length, group), numbered 10, 11, ... in the store."""
    lengths, groups = np.array(corpus, np.int64).T
    arguments: dict[str, Any] = {
        "records": np.arange(10, 10 + len(corpus)),
        "lengths": lengths,
        "groups": groups,
        "sampling": "record",
        "tokens_per_batch": 64,
        "seed": 0,
    }
    return EpochOrder(**arguments | changes)


def epoch_of(order: EpochOrder, epoch: int) -> list[list[int]]:
    return [batch.tolist() for batch in order.batches(epoch)]


@given(CORPORA, SEEDS, st.integers(0, 10**6))
def test_every_record_is_visited_exactly_once_an_epoch(
    corpus: list[tuple[int, int]], seed: int, epoch: int
) -> None:
    visited = [record for batch in epoch_of(order_of(corpus, seed=seed), epoch) for record in batch]
    assert sorted(visited) == list(range(10, 10 + len(corpus)))


@given(CORPORA, SEEDS, st.integers(0, 10**6))
def test_cluster_sampling_visits_one_member_of_every_group(
    corpus: list[tuple[int, int]], seed: int, epoch: int
) -> None:
    order = order_of(corpus, sampling="cluster", seed=seed)
    visited = [record for batch in epoch_of(order, epoch) for record in batch]
    groups = [corpus[record - 10][1] for record in visited]
    assert sorted(groups) == sorted({group for _, group in corpus})


@given(CORPORA, SEEDS, st.integers(1, 100), st.sampled_from(["record", "cluster"]))
def test_a_batch_never_exceeds_its_budget_unless_it_is_one_long_record(
    corpus: list[tuple[int, int]], seed: int, budget: int, sampling: str
) -> None:
    order = order_of(corpus, tokens_per_batch=budget, seed=seed, sampling=sampling)
    for batch in epoch_of(order, 0):
        assert batch
        tokens = sum(corpus[record - 10][0] for record in batch)
        assert tokens <= budget or len(batch) == 1


@given(CORPORA, SEEDS, st.integers(0, 10**6), st.sampled_from(["record", "cluster"]))
def test_order_is_a_pure_function_of_seed_and_epoch(
    corpus: list[tuple[int, int]], seed: int, epoch: int, sampling: str
) -> None:
    order = order_of(corpus, seed=seed, sampling=sampling)
    first = epoch_of(order, epoch)
    epoch_of(order, epoch + 1)
    assert epoch_of(order, epoch) == first
    assert epoch_of(order_of(corpus, seed=seed, sampling=sampling), epoch) == first


def test_epochs_and_seeds_differ() -> None:
    corpus = [(length, 0) for length in range(1, 61)]
    epochs = [epoch_of(order_of(corpus), epoch) for epoch in range(5)]
    assert len({str(batches) for batches in epochs}) == 5
    assert epoch_of(order_of(corpus, seed=1), 0) != epochs[0]


def test_every_member_of_a_group_is_drawn_equally_often(
    chi_square_p: Callable[..., float],
) -> None:
    corpus = [(5, group) for group in [0] * 10 + [1] * 2 + [2]]
    order = order_of(corpus, sampling="cluster")
    drawn = np.zeros(len(corpus))
    epochs = 1000
    for epoch in range(epochs):
        drawn[[record - 10 for batch in order.batches(epoch) for record in batch]] += 1
    assert chi_square_p(drawn[:10], np.full(10, epochs / 10)) > 1e-3
    assert chi_square_p(drawn[10:12], np.full(2, epochs / 2)) > 1e-3
    assert drawn[12] == epochs


def test_rows_of_a_batch_are_of_similar_length() -> None:
    """Padding to the longest row would cost at most 5 % here; in random order 45 %."""
    lengths = np.random.default_rng(0).integers(20, 500, size=3000)
    order = order_of([(int(length), 0) for length in lengths], tokens_per_batch=4096)
    batches = [lengths[np.array(batch) - 10] for batch in epoch_of(order, 0)]
    padded = sum(batch.max() * len(batch) for batch in batches)
    assert padded < 1.05 * lengths.sum()
    filled = np.mean([batch.sum() for batch in batches]) / 4096
    assert filled > 0.9


def test_batches_of_short_and_long_rows_alternate_at_random() -> None:
    """Sorted batches in sorted order would teach short sequences first."""
    order = order_of([(length, 0) for length in range(1, 1001)], tokens_per_batch=5000)
    means = [np.mean(batch) for batch in epoch_of(order, 0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


@given(st.lists(st.integers(0, 1000), max_size=50), st.integers(1, 12))
def test_dealing_shares_out_every_record_once(records: list[int], parts: int) -> None:
    dealt = deal(np.array(records, np.int64), parts)
    assert len(dealt) == parts
    assert sorted(record for part in dealt for record in part.tolist()) == sorted(records)
    sizes = [len(part) for part in dealt]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("ranks", "micro_batches"), [(1, 4), (2, 2), (4, 1)])
def test_ranks_and_micro_batches_together_see_the_same_rows(ranks: int, micro_batches: int) -> None:
    dealt = deal(np.arange(13), ranks * micro_batches)
    assert sorted(np.concatenate(dealt).tolist()) == list(range(13))
