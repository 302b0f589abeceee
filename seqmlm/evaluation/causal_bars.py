"""Bars of a causal loss: predictors of the next token that only count.

- unigram: training frequencies;
- bigram: what followed the last token in training, smoothed towards the unigram.
"""

# R tokens in the range [low, high), K different (context, token) pairs, M targets

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import IntArray
from seqmlm.errors import ConfigError, DataError
from seqmlm.evaluation.bars import UNIGRAM, BarResult
from seqmlm.evaluation.counting import FloatArray, IndexArray, smoothed_frequencies
from seqmlm.objectives.rows import Direction

BIGRAM = "bigram"

_STRENGTHS = np.geomspace(0.1, 1e5, 61)
_BLOCK_TOKENS = 1 << 20


@dataclass(frozen=True)
class CausalBars:
    """Fitted bars; :func:`fit_causal_bars` makes them.

    Args:
        low: first id that may be predicted.
        unigram: float64 ``[R]``; smoothed training frequencies, summing to one.
        pairs: int64 ``[K]``, increasing; context id * R + token - low.
        counts: int64 ``[K]``; how often each pair was seen.
        strength: how many observations of a context the unigram is worth.
        direction: in which the tokens are predicted.
    """

    low: int
    unigram: FloatArray
    pairs: IndexArray
    counts: IndexArray
    strength: float
    direction: Direction

    def evaluate(
        self, sequences: Sequence[IntArray], hidden: Sequence[npt.NDArray[np.integer]]
    ) -> dict[str, BarResult]:
        """Score both bars on some positions.

        Args:
            sequences: true ids, int32 ``[n]`` each, special tokens included.
            hidden: for each sequence the predicted positions, int ``[m]``; each has a neighbour
                that it is predicted from.

        Raises:
            ConfigError: there is no target.
        """
        back = 1 if self.direction == "left_to_right" else -1
        if not any(len(positions) for positions in hidden):
            raise ConfigError("bars: no position is predicted; give at least one target.")
        context = np.concatenate(
            [ids[positions - back] for ids, positions in zip(sequences, hidden, strict=True)]
        ).astype(np.int64)
        token = self.low_based(
            np.concatenate([ids[at] for ids, at in zip(sequences, hidden, strict=True)])
        )
        unigram = BarResult(-np.log(self.unigram[token]), token == self.unigram.argmax())
        seen, totals = self._seen(context, token), self._totals(context)
        chance = (seen + self.strength * self.unigram[token]) / (totals + self.strength)
        bigram = BarResult(-np.log(chance), token == self._best(context))
        return {UNIGRAM: unigram, BIGRAM: bigram}

    def low_based(self, ids: npt.NDArray[np.integer]) -> IndexArray:
        """Return ids counted from the first one of the range."""
        return ids.astype(np.int64) - self.low

    def _seen(self, context: IndexArray, token: IndexArray) -> IndexArray:
        keys = context * len(self.unigram) + token
        at = np.searchsorted(self.pairs, keys).clip(max=len(self.pairs) - 1)
        return np.where(self.pairs[at] == keys, self.counts[at], 0)

    def _totals(self, context: IndexArray) -> IndexArray:
        sums = np.concatenate([[0], np.cumsum(self.counts)])
        size = len(self.unigram)
        first = np.searchsorted(self.pairs, context * size)
        last = np.searchsorted(self.pairs, (context + 1) * size)
        totals: IndexArray = sums[last] - sums[first]
        return totals

    def _best(self, context: IndexArray) -> IndexArray:
        """The most probable token after each context."""
        best = {}
        size = len(self.unigram)
        for each in np.unique(context).tolist():
            first, last = np.searchsorted(self.pairs, [each * size, (each + 1) * size])
            scores = self.strength * self.unigram
            scores[self.pairs[first:last] - each * size] += self.counts[first:last]
            best[each] = int(scores.argmax())
        return np.array([best[each] for each in context.tolist()], np.int64)


def fit_causal_bars(
    sequences: Iterable[IntArray], low: int, high: int, *, direction: Direction
) -> CausalBars:
    """Count tokens and adjacent pairs, and fit the strength by leaving one out.

    Args:
        sequences: ids of each training sequence, int32 ``[n]``, special tokens included; read
            once. Memory grows with the number of different pairs.
        low: first id that may be predicted.
        high: one past the last; ids outside the range serve as context only.
        direction: in which the tokens are predicted.

    Raises:
        DataError: no sequence holds a token of the range that has a context.
    """
    size = high - low
    tokens = np.zeros(size, np.int64)
    pairs, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    block: list[IndexArray] = []
    block_tokens = 0
    for ids in sequences:
        keys, predicted = _pairs(ids.astype(np.int64), low, high, direction)
        tokens += np.bincount(predicted, minlength=size)
        block.append(keys)
        block_tokens += len(keys)
        if block_tokens >= _BLOCK_TOKENS:
            pairs, counts = _merge(pairs, counts, block)
            block, block_tokens = [], 0
    pairs, counts = _merge(pairs, counts, block)
    if not len(pairs):
        raise DataError(
            f"bars: no training sequence holds a token of the range [{low}, {high}) that can be "
            "predicted from a neighbour."
        )
    unigram = smoothed_frequencies(tokens)
    strength = _fit_strength(pairs, counts, unigram)
    return CausalBars(low, unigram, pairs, counts, strength, direction)


def _pairs(
    ids: IndexArray, low: int, high: int, direction: Direction
) -> tuple[IndexArray, IndexArray]:
    """Keys of the adjacent pairs whose second token may be predicted, and these tokens."""
    if direction == "right_to_left":
        ids = ids[::-1]
    context, token = ids[:-1], ids[1:] - low
    predictable = (token >= 0) & (token < high - low)
    context, token = context[predictable], token[predictable]
    return context * (high - low) + token, token


def _merge(
    pairs: IndexArray, counts: IndexArray, block: Sequence[IndexArray]
) -> tuple[IndexArray, IndexArray]:
    if not block:
        return pairs, counts
    found, found_counts = np.unique(np.concatenate(block), return_counts=True)
    merged, position = np.unique(np.concatenate([pairs, found]), return_inverse=True)
    total = np.bincount(position, weights=np.concatenate([counts, found_counts]))
    return merged, total.astype(np.int64)


def _fit_strength(pairs: IndexArray, counts: IndexArray, unigram: FloatArray) -> float:
    """Minimise the loss of every training pair under the counts of all others."""
    context, token = np.divmod(pairs, len(unigram))
    _, group = np.unique(context, return_inverse=True)
    totals = np.bincount(group, weights=counts)[group]
    losses = [
        -(counts * np.log((counts - 1 + k * unigram[token]) / (totals - 1 + k))).sum()
        for k in _STRENGTHS
    ]
    return float(_STRENGTHS[int(np.argmin(losses))])
