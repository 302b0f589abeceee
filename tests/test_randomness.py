"""Streams are a pure function of their key."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.randomness import Purpose, stream

WORD = st.integers(0, 2**63 - 1)
KEYS = st.tuples(WORD, st.sampled_from(Purpose), WORD, WORD, WORD)
Key = tuple[int, Purpose, int, int, int]


def draw(key: Key, count: int = 8) -> list[int]:
    seed, purpose, epoch, sample, index = key
    generator = stream(seed, purpose, epoch=epoch, sample=sample, index=index)
    return [int(value) for value in generator.integers(2**63, size=count)]


@given(KEYS)
def test_equal_keys_give_equal_streams(key: Key) -> None:
    assert draw(key) == draw(key)


@given(KEYS, KEYS)
def test_different_keys_give_different_streams(one: Key, other: Key) -> None:
    assert (draw(one) == draw(other)) == (one == other)


@given(KEYS, st.integers(0, 4))
def test_every_part_of_the_key_matters(key: Key, position: int) -> None:
    changed = list(key)
    if position == 1:
        changed[1] = Purpose((key[1] + 1) % len(Purpose))
    else:
        changed[position] ^= 1
    assert draw(key) != draw((*changed,))  # type: ignore[arg-type]


def test_streams_do_not_depend_on_the_order_in_which_they_are_used() -> None:
    samples = list(range(20))
    forwards = {i: stream(0, Purpose.OBJECTIVE, sample=i).random() for i in samples}
    backwards = {i: stream(0, Purpose.OBJECTIVE, sample=i).random() for i in reversed(samples)}
    open_together = {i: stream(0, Purpose.OBJECTIVE, sample=i) for i in samples}
    for generator in open_together.values():
        generator.random(3)
    assert forwards == backwards
    assert stream(0, Purpose.OBJECTIVE, sample=7).random() == forwards[7]


@pytest.mark.parametrize("part", ["epoch", "sample", "index"])
def test_neighbouring_streams_neither_overlap_nor_correlate(part: str) -> None:
    """Their keys differ in counter words above the one that counts the draws."""
    rows = np.stack([stream(0, Purpose.OBJECTIVE, **{part: i}).random(1000) for i in range(20)])
    assert len(np.unique(rows)) == rows.size
    correlations = np.asarray(np.corrcoef(rows))[~np.eye(20, dtype=np.bool_)]
    assert np.abs(correlations).max() < 5 / np.sqrt(1000)


def test_first_draws_of_many_streams_are_uniform() -> None:
    first = np.array([stream(0, Purpose.OBJECTIVE, sample=i).random() for i in range(2000)])
    assert abs(first.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 2000)
