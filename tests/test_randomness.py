"""Streams are a pure function of their key."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.randomness import Purpose, Streams, stream

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


def test_streams_are_those_of_splitmix64() -> None:
    """The reference implementation (Vigna, splitmix64.c) begun at 1234567."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    drawn = Streams(np.array([1234567], np.uint64)).uniform(np.array([5]))
    assert drawn.tolist() == [(number >> 11) / 2**53 for number in expected]


STARTS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5)


@given(starts=STARTS, data=st.data())
def test_a_stream_depends_on_nothing_but_its_start(starts: list[int], data: st.DataObject) -> None:
    """Not on the others, their order, or on how many numbers are drawn at a time."""
    calls = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    streams = Streams(np.array(starts, np.uint64))
    counts = [np.arange(len(starts)) + call for call in calls]
    parts = [np.split(streams.uniform(each), np.cumsum(each)[:-1]) for each in counts]
    for place, start in enumerate(starts):
        together = np.concatenate([part[place] for part in parts])
        alone = Streams(np.array([start], np.uint64)).uniform(np.array([len(together)]))
        assert together.tolist() == alone.tolist()


@given(seed=WORD, epoch=WORD, index=st.integers(0, 9), samples=st.lists(WORD, unique=True))
def test_streams_of_samples_are_a_pure_function_of_their_key(
    seed: int, epoch: int, index: int, samples: list[int]
) -> None:
    def first(samples: list[int], **other: int) -> list[float]:
        key = {"seed": seed, "epoch": epoch, "index": index} | other
        streams = Streams.of(purpose=Purpose.OBJECTIVE, samples=np.array(samples, np.int64), **key)
        return [float(number) for number in streams.uniform(np.ones(len(samples), np.int64))]

    numbers = first(samples)
    assert first(samples[::-1]) == numbers[::-1]
    assert len(set(numbers)) == len(samples)
    for other in ({"seed": seed + 1}, {"epoch": epoch + 1}, {"index": index + 1}):
        assert not set(first(samples, **other)) & set(numbers)


def test_numbers_are_uniform_and_those_of_neighbouring_samples_unrelated(
    chi_square_p: Callable[..., float],
) -> None:
    streams = Streams.of(0, Purpose.OBJECTIVE, epoch=0, samples=np.arange(20_000))
    drawn = streams.uniform(np.full(20_000, 3)).reshape(-1, 3)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    for column in drawn.T:
        assert chi_square_p(np.bincount((column * 64).astype(int)), np.full(64, 20_000 / 64)) > 1e-3
    # Pairs within a stream, and of one sample and the next: a 16 x 16 table each.
    pairs = [
        (drawn[:, 0], drawn[:, 1]),
        (drawn[:-1, 0], drawn[1:, 0]),
        (drawn[:-1, 2], drawn[1:, 0]),
    ]
    for left, right in pairs:
        cells = (left * 16).astype(int) * 16 + (right * 16).astype(int)
        assert chi_square_p(np.bincount(cells, minlength=256), np.full(256, len(left) / 256)) > 1e-3


def test_generators_of_streams_are_independent_of_one_another() -> None:
    starts = np.array([5, 7, 5], np.uint64)
    drawn = [generator.random(3).tolist() for generator in Streams(starts).generators()]
    assert drawn[0] == drawn[2] != drawn[1]
    (alone,) = Streams(starts[1:2]).generators()
    assert alone.random(3).tolist() == drawn[1]
