"""What is held out: whole groups, the share asked for, the same every time."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmlm.data.splits import Split, split_records
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.errors import ConfigError

Stores = Callable[[Sequence[str]], TokenStore]

# Sizes of the groups; the domain of words groups records by their first letter.
GROUPS = st.lists(st.integers(1, 6), min_size=2, max_size=26)


def corpus(sizes: Sequence[int]) -> list[str]:
    return [letter + "x" * (number % 7) for letter, size in zip(string.ascii_lowercase, sizes,
            strict=False) for number in range(size)]  # fmt: skip


def split(words: Domain, store: TokenStore, **changes: Any) -> Split:
    arguments: dict[str, Any] = {
        "method": "cluster",
        "sampling": "record",
        "validation_fraction": 0.2,
        "validation_records": 1000,
        "seed": 0,
    }
    return split_records(words, store, **arguments | changes)


@settings(max_examples=50)
@given(sizes=GROUPS, fraction=st.floats(0.01, 0.9), seed=st.integers(0, 2**32))
def test_groups_are_never_divided(
    words: Domain, word_store: Stores, sizes: list[int], fraction: float, seed: int
) -> None:
    store = word_store(corpus(sizes))
    try:
        parts = split(words, store, validation_fraction=fraction, seed=seed)
    except ConfigError:
        return
    groups = parts.groups
    assert not set(groups[parts.train]) & set(groups[parts.validation])
    assert sorted([*parts.train, *parts.validation]) == list(range(len(store)))
    assert (np.diff(parts.train) > 0).all()
    assert (np.diff(parts.validation) > 0).all()
    largest_share = max(fraction * len(store), 1)
    assert 0 < len(parts.validation) <= largest_share


@pytest.mark.parametrize("method", ["cluster", "random"])
@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5])
def test_the_share_held_out_is_the_one_asked_for(
    words: Domain, word_store: Stores, method: str, fraction: float
) -> None:
    store = word_store(corpus([8] * 25))
    parts = split(words, store, method=method, validation_fraction=fraction)
    assert len(parts.validation) == pytest.approx(fraction * 200, abs=8)
    assert len(parts.train) + len(parts.validation) == 200


def test_splits_are_a_pure_function_of_the_seed(words: Domain, word_store: Stores) -> None:
    store = word_store(corpus([4] * 26))
    first, again, other = (split(words, store, seed=seed) for seed in (3, 3, 4))
    assert first.validation.tolist() == again.validation.tolist()
    assert first.validation.tolist() != other.validation.tolist()


def test_a_fraction_of_zero_trains_on_everything(words: Domain, word_store: Stores) -> None:
    store = word_store(["aa", "", "b"])
    parts = split(words, store, validation_fraction=0)
    assert parts.train.tolist() == [0, 2]
    assert len(parts.validation) == 0
    assert parts.leakage == 0


@pytest.mark.parametrize("sampling", ["record", "cluster"])
def test_empty_records_are_neither_trained_on_nor_held_out(
    words: Domain, word_store: Stores, sampling: str
) -> None:
    store = word_store([text for text in corpus([2] * 10) for text in (text, "")])
    parts = split(words, store, sampling=sampling, validation_fraction=0.4)
    assert (store.lengths[parts.train] > 0).all()
    assert (store.lengths[parts.validation] > 0).all()


@pytest.mark.parametrize(
    ("sizes", "fraction"),
    [([5], 0.5), ([1], 0.9), ([9, 9], 0.1)],
    ids=["one group", "one record", "two large groups"],
)
def test_too_few_groups_are_refused_with_the_way_out(
    words: Domain, word_store: Stores, sizes: list[int], fraction: float
) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"the {sum(sizes)} records form {len(sizes)} similarity group.*fraction=0",
    ):
        split(words, word_store(corpus(sizes)), validation_fraction=fraction)


def test_cluster_sampling_evaluates_the_longest_record_of_each_group(
    words: Domain, word_store: Stores
) -> None:
    """A fifth of the 20 groups is held out, whatever the groups hold."""
    store = word_store(corpus([1, 6] * 10))
    parts = split(words, store, sampling="cluster", validation_fraction=0.2)
    groups = parts.groups[parts.validation]
    assert len(groups) == len(set(groups)) == 4
    for record in parts.validation:
        relatives = np.flatnonzero(parts.groups == parts.groups[record])
        assert store.lengths[record] == store.lengths[relatives].max()
        assert not set(relatives) & set(parts.train)


def test_at_most_so_many_records_are_evaluated_and_the_rest_stays_unused(
    words: Domain, word_store: Stores
) -> None:
    store = word_store(corpus([4] * 25))
    whole = split(words, store, validation_fraction=0.5)
    few = split(words, store, validation_fraction=0.5, validation_records=10)
    assert len(few.validation) == 10
    assert set(few.validation) < set(whole.validation)
    assert few.train.tolist() == whole.train.tolist()


def test_a_random_split_divides_groups_and_reports_the_leakage(
    words: Domain, word_store: Stores
) -> None:
    """Every text is there ten times: a record held out at random has its copy in training."""
    store = word_store(["abc", "bcd", "cde"] * 10)
    parts = split(words, store, method="random", validation_fraction=0.1)
    assert parts.num_groups == 3
    assert parts.leakage == 1.0
    assert split(words, store, validation_fraction=0.4).leakage == 0.0


def test_a_group_larger_than_the_share_is_never_held_out(words: Domain, word_store: Stores) -> None:
    store = word_store(corpus([60, *[2] * 20]))
    for seed in range(20):
        parts = split(words, store, validation_fraction=0.1, seed=seed)
        assert len(set(parts.groups[parts.validation])) > 1
        assert parts.groups[0] in parts.groups[parts.train]
