"""Bars of the next token, against counts by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from seqmlm.errors import ConfigError, DataError
from seqmlm.evaluation.causal_bars import BIGRAM, CausalBars, fit_causal_bars

START, A, B, C = 0, 2, 3, 4  # the range is [2, 5): a, b, c


def sequence(*ids: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.array(ids, np.int32)


def evaluate(bars: CausalBars, ids: Sequence[int], positions: Sequence[int]) -> dict[str, Any]:
    return bars.evaluate([sequence(*ids)], [np.array(positions)])


def test_bigram_chances_are_counts_smoothed_towards_the_unigram() -> None:
    """a a b, a a c: after a: a twice, b once, c once; 4 a, 1 b, 1 c in all, one added each."""
    bars = fit_causal_bars(
        iter([sequence(START, A, A, B), sequence(START, A, A, C)]), 2, 5, direction="left_to_right"
    )
    unigram = np.array([5, 2, 2]) / 9
    found = evaluate(bars, [START, A, A, B], [1, 2, 3])
    np.testing.assert_allclose(found["unigram"].nats, -np.log(unigram[[0, 0, 1]]))
    k = bars.strength
    expected = np.array([2 + k * unigram[0], 2 + k * unigram[0], 1 + k * unigram[1]])
    np.testing.assert_allclose(found[BIGRAM].nats, -np.log(expected / (np.array([2, 4, 4]) + k)))
    assert (
        found["unigram"].correct.tolist() == found[BIGRAM].correct.tolist() == [True, True, False]
    )


def test_chances_add_up_to_one_after_every_context() -> None:
    bars = fit_causal_bars([sequence(START, A, B, C, A, B)], 2, 5, direction="left_to_right")
    for context in (START, 1, A, B, C):
        nats = [evaluate(bars, [context, token], [1])[BIGRAM].nats[0] for token in (A, B, C)]
        assert np.exp(-np.array(nats)).sum() == pytest.approx(1)


def test_a_deterministic_successor_is_predicted_almost_surely() -> None:
    cycle = sequence(START, *[A, B, C] * 200)
    bars = fit_causal_bars([cycle], 2, 5, direction="left_to_right")
    found = evaluate(bars, cycle.tolist(), range(2, 600))
    assert found[BIGRAM].loss < 0.01
    assert found[BIGRAM].accuracy == 1
    assert found["unigram"].loss == pytest.approx(np.log(3), abs=0.01)


def test_independent_tokens_are_not_better_predicted_by_their_neighbour() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.integers(2, 5, size=4_000).astype(np.int32)
    bars = fit_causal_bars([drawn[:2_000]], 2, 5, direction="left_to_right")
    found = bars.evaluate([drawn[2_000:]], [np.arange(1, 2_000)])
    assert abs(found[BIGRAM].loss - found["unigram"].loss) < 0.005


def test_right_to_left_counts_what_precedes() -> None:
    forwards = sequence(START, A, B, C, C, A)
    bars = fit_causal_bars([forwards], 2, 5, direction="right_to_left")
    mirrored = fit_causal_bars([forwards[::-1]], 2, 5, direction="left_to_right")
    assert np.array_equal(bars.pairs, mirrored.pairs)
    found = evaluate(bars, forwards.tolist(), [1, 2, 3, 4])[BIGRAM].nats
    expected = evaluate(mirrored, forwards[::-1].tolist(), [4, 3, 2, 1])[BIGRAM].nats
    np.testing.assert_allclose(found, expected)


def test_blocks_of_counting_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    texts = [generator.integers(0, 6, size=50).astype(np.int32) for _ in range(20)]
    whole = fit_causal_bars(texts, 2, 5, direction="left_to_right")
    monkeypatch.setattr("seqmlm.evaluation.causal_bars._BLOCK_TOKENS", 60)
    parts = fit_causal_bars(texts, 2, 5, direction="left_to_right")
    assert np.array_equal(whole.pairs, parts.pairs)
    assert np.array_equal(whole.counts, parts.counts)


def test_nothing_to_count_or_to_predict_is_an_error() -> None:
    with pytest.raises(DataError, match="can be predicted from a neighbour"):
        fit_causal_bars([sequence(START), sequence(A)], 2, 5, direction="left_to_right")
    bars = fit_causal_bars([sequence(START, A)], 2, 5, direction="left_to_right")
    with pytest.raises(ConfigError, match="no position is predicted"):
        evaluate(bars, [START], [])
