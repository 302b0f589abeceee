from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from seqmlm.evaluation.adjacent import AdjacentEvidence, AdjacentPairs
from seqmlm.evaluation.bars import ADJACENT, COMPOSITION, UNIGRAM, fit_bars

SIZE = 7
CODES = st_numpy.arrays(np.int64, st.integers(0, 60), elements=st.integers(0, SIZE))


def dense(pairs: AdjacentPairs) -> np.ndarray:
    table = np.zeros((SIZE, SIZE), np.int64)
    table[np.divmod(pairs.keys, SIZE)] = pairs.counts
    return table


@given(CODES)
def test_pairs_count_adjacent_tokens_of_the_range(codes: np.ndarray) -> None:
    expected = np.zeros((SIZE, SIZE), np.int64)
    for left, right in zip(codes[:-1].tolist(), codes[1:].tolist(), strict=True):
        if left < SIZE and right < SIZE:
            expected[left, right] += 1
    pairs = AdjacentPairs.of(codes, SIZE)
    np.testing.assert_array_equal(dense(pairs), expected)
    assert (pairs.counts > 0).all()


@given(CODES, CODES)
def test_counts_add_and_subtract(first: np.ndarray, second: np.ndarray) -> None:
    a, b = AdjacentPairs.of(first, SIZE), AdjacentPairs.of(second, SIZE)
    np.testing.assert_array_equal(dense(a + b), dense(a) + dense(b))
    np.testing.assert_array_equal(((a + b) - b).keys, a.keys)
    np.testing.assert_array_equal(((a + b) - b).counts, a.counts)


def test_ratios_are_those_of_the_two_conditional_frequencies() -> None:
    #                                        pairs: 0 1, 1 2, 2 0, 0 1, 1 1
    pairs = AdjacentPairs.of(np.array([0, 1, 2, 0, 1, 1]), 3)
    unigram = np.array([0.3, 0.5, 0.2])
    shrinkage = 2.0
    evidence = AdjacentEvidence.of(pairs, unigram, shrinkage)
    # The left neighbour is 1, the right one 1; then 2 on the left and nothing on the right.
    ratios = evidence.ratios(np.array([1, 2]), np.array([1, 3]))

    def conditional(seen: list[int]) -> np.ndarray:
        return (np.array(seen) + shrinkage * unigram) / (sum(seen) + shrinkage)

    left, right = conditional([0, 1, 1]), conditional([2, 1, 0])
    for row, expected in zip(
        ratios, (left / unigram * right / unigram, conditional([1, 0, 0]) / unigram), strict=True
    ):
        posterior = unigram * np.exp(row)
        np.testing.assert_allclose(
            posterior / posterior.sum(), unigram * expected / (unigram * expected).sum()
        )


def test_nothing_to_see_gives_no_evidence() -> None:
    pairs = AdjacentPairs.of(np.array([0, 1, 2]), 3)
    evidence = AdjacentEvidence.of(pairs, np.full(3, 1 / 3), 1.0)
    assert not evidence.ratios(np.array([3]), np.array([3])).any()


def test_the_adjacent_bar_learns_a_large_cycle() -> None:
    """What follows is certain: unigram log 600, adjacent close to 0."""
    generator = np.random.default_rng(0)
    sequences = [
        ((start + 7 * np.arange(50)) % 600).astype(np.int32)
        for start in generator.integers(600, size=200)
    ]
    bars = fit_bars(sequences[:-20], 0, 600, seed=0)
    hidden = [generator.choice(np.arange(1, 49), 7, replace=False) for _ in range(20)]
    losses = {name: bar.loss for name, bar in bars.evaluate(sequences[-20:], hidden).items()}
    assert list(losses) == [UNIGRAM, COMPOSITION, ADJACENT]
    assert losses[UNIGRAM] == pytest.approx(np.log(600), abs=0.3)
    assert losses[ADJACENT] < 1.0 < losses[COMPOSITION]
