"""Counts of tokens and of token pairs, and what may be counted around a hidden token."""

# R tokens in the range [low, high), S sequences, M targets (hidden tokens)
#
# A code is id - low, or R for whatever is hidden, special, outside the range or beyond an end of
# the sequence.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import IntArray
from seqmlm.evaluation.adjacent import AdjacentPairs

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]
Positions = npt.NDArray[np.integer]

CONTEXT_REACH = 4
OFFSETS = np.array([d for d in range(-CONTEXT_REACH, CONTEXT_REACH + 1) if d != 0])
MAX_CONTEXT_TOKENS = 512
"""Largest range whose pairs are counted up to 4 places apart: the tables have 8 x R x R entries."""

_CHUNK_ELEMENTS = 1 << 21  # of a float64 [M, R] array: 16 MiB


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each token occurs, and each ordered pair where the range is small.

    Args:
        tokens: int64 ``[R]``.
        pairs: int64 ``[CONTEXT_REACH, R, R]``; ``[d - 1, a, b]`` counts ``b`` that stand ``d``
            places after ``a``. Above ``MAX_CONTEXT_TOKENS`` only pairs side by side are counted.
    """

    tokens: IndexArray
    pairs: IndexArray | AdjacentPairs

    def plus(self, other: Counts) -> Counts:
        """Return the counts of both together."""
        return Counts(self.tokens + other.tokens, self.pairs + other.pairs)  # type: ignore[operator]

    def minus(self, other: Counts) -> Counts:
        """Return the counts without those of ``other``, which must be part of them."""
        return Counts(self.tokens - other.tokens, self.pairs - other.pairs)  # type: ignore[operator]


@dataclass(frozen=True, slots=True)
class Targets:
    """What may be seen around the hidden tokens of some sequences and, apart from it, the truth.

    Args:
        truth: int64 ``[M]``; codes of the hidden tokens.
        sequence: int64 ``[M]``; row of ``visible_counts`` that each belongs to.
        visible_counts: int64 ``[S, R]``; tokens of each sequence that are not hidden.
        neighbours: int64 ``[M, 8]``; codes at :data:`OFFSETS` from each target.
    """

    truth: IndexArray
    sequence: IndexArray
    visible_counts: IndexArray
    neighbours: IndexArray


def count(sequences: Sequence[IntArray], low: int, high: int) -> Counts:
    """Count the tokens of [low, high) in some sequences, and their pairs (:class:`Counts`)."""
    size = high - low
    codes, _ = _codes(sequences, low, high)
    tokens = np.bincount(codes, minlength=size + 1)[:size]
    if size > MAX_CONTEXT_TOKENS:
        return Counts(tokens, AdjacentPairs.of(codes, size))
    pairs = np.empty((CONTEXT_REACH, size, size), dtype=np.int64)
    square = (size + 1, size + 1)
    for distance in range(1, CONTEXT_REACH + 1):
        keys = codes[:-distance] * (size + 1) + codes[distance:]
        counted = np.bincount(keys, minlength=(size + 1) ** 2).reshape(square)
        pairs[distance - 1] = counted[:size, :size]
    return Counts(tokens, pairs)


def smoothed_frequencies(tokens: IndexArray) -> FloatArray:
    """Return add-one smoothed frequencies, float64 ``[R]``, of token counts ``[R]``."""
    frequencies: FloatArray = (tokens + 1.0) / (tokens.sum() + len(tokens))
    return frequencies


def association(pairs: IndexArray, unigram: FloatArray) -> FloatArray:
    """Return log P_d(a, c) / (P(a) P(c)) of a token ``a`` and its neighbour ``c`` at offset ``d``.

    R x R pseudo-counts are spread as if neighbours were independent, one per cell on average:
    the ratio of a pair too rare to be judged is pulled to one.

    Args:
        pairs: int64 ``[CONTEXT_REACH, R, R]`` as in :class:`Counts`.
        unigram: float64 ``[R]``; P.

    Returns:
        float64 ``[8, R + 1, R]``, indexed by offset, ``c``, ``a``. The last ``c`` stands for
        nothing to see and is all zeros.
    """
    size = len(unigram)
    independent = np.outer(unigram, unigram)
    table = np.zeros((len(OFFSETS), size + 1, size))
    for index, offset in enumerate(OFFSETS):
        counted = pairs[abs(offset) - 1]  # [earlier token, later token]
        ratio = (counted / independent + size**2) / (counted.sum() + size**2)
        table[index, :size] = np.log(ratio if offset < 0 else ratio.T)
    return table


def iterate_targets(
    sequences: Sequence[IntArray], hidden: Sequence[Positions], low: int, high: int
) -> Iterator[Targets]:
    """Yield the targets of consecutive sequences, so few that a [M, R] array stays small."""
    limit = max(1, _CHUNK_ELEMENTS // (high - low))
    start, rows = 0, 0
    for stop, positions in enumerate(hidden, start=1):
        rows += max(1, len(positions))
        if rows >= limit or stop == len(hidden):
            yield _targets(sequences[start:stop], hidden[start:stop], low, high)
            start, rows = stop, 0


def _targets(
    sequences: Sequence[IntArray], hidden: Sequence[Positions], low: int, high: int
) -> Targets:
    size = high - low
    codes, starts = _codes(sequences, low, high)
    sequence = np.repeat(np.arange(len(sequences)), [len(positions) for positions in hidden])
    positions = starts[sequence] + np.concatenate(hidden).astype(np.int64)
    truth = codes[positions]
    codes[positions] = size  # from here on nothing can see what is hidden
    spans = np.diff(starts, append=len(codes))
    keys = np.repeat(np.arange(len(sequences)), spans) * (size + 1) + codes[starts[0] :]
    visible_counts = np.bincount(keys, minlength=len(sequences) * (size + 1))
    return Targets(
        truth=truth,
        sequence=sequence,
        visible_counts=visible_counts.reshape(len(sequences), size + 1)[:, :size],
        neighbours=codes[positions[:, None] + OFFSETS],
    )


def _codes(sequences: Sequence[IntArray], low: int, high: int) -> tuple[IndexArray, IndexArray]:
    """Join sequences as codes, and say where each starts.

    The gaps around them are as wide as the context reaches: looking at a neighbour needs no
    bounds and never meets another sequence.
    """
    gap = np.full(CONTEXT_REACH, -1, dtype=np.int64)
    ids = np.concatenate([gap, *(part for sequence in sequences for part in (sequence, gap))])
    codes = np.where((ids >= low) & (ids < high), ids - low, high - low)
    spans = [len(sequence) + CONTEXT_REACH for sequence in sequences]
    return codes, CONTEXT_REACH + np.cumsum([0, *spans[:-1]], dtype=np.int64)
