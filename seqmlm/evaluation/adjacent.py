"""What the two tokens beside a hidden one say about it, in ranges too large for pair tables."""

# R tokens in the range, K different pairs that occur, M targets

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AdjacentPairs:
    """How often two tokens stand side by side; memory grows with the pairs that occur.

    Args:
        size: R.
        keys: int64 ``[K]``, increasing; code of the left token x R + code of the right one.
        counts: int64 ``[K]``, positive.
    """

    size: int
    keys: IndexArray
    counts: IndexArray

    @classmethod
    def of(cls, codes: IndexArray, size: int) -> AdjacentPairs:
        """Count the adjacent codes below ``size`` in one sequence of codes."""
        left, right = codes[:-1], codes[1:]
        seen = (left < size) & (right < size)
        keys, counts = np.unique(left[seen] * size + right[seen], return_counts=True)
        return cls(size, keys, counts)

    def __add__(self, other: AdjacentPairs) -> AdjacentPairs:
        """The counts of both together."""
        return self._combined(other, other.counts)

    def __sub__(self, other: AdjacentPairs) -> AdjacentPairs:
        """The counts without those of ``other``, which must be part of them."""
        return self._combined(other, -other.counts)

    def _combined(self, other: AdjacentPairs, change: IndexArray) -> AdjacentPairs:
        keys, inverse = np.unique(np.concatenate([self.keys, other.keys]), return_inverse=True)
        counts = np.zeros(len(keys), np.int64)
        np.add.at(counts, inverse, np.concatenate([self.counts, change]))
        return AdjacentPairs(self.size, keys[counts > 0], counts[counts > 0])


@dataclass(frozen=True, slots=True)
class AdjacentEvidence:
    """Log-likelihood ratios that the tokens beside a target give for each candidate.

    For a neighbour ``c`` on the left, log P(a | c) / P(a) with P(a | c) = (n(c a) + s P(a)) /
    (n(c) + s), and likewise on the right. Up to a constant of ``c``, which cancels when
    probabilities are normalised, this is log(1 + n(c a) / (s P(a))): zero for unseen pairs.

    Args:
        size: R.
        after: keys neighbour x R + candidate, and their ratios, of neighbours on the left.
        before: the same of neighbours on the right.
    """

    size: int
    after: tuple[IndexArray, FloatArray]
    before: tuple[IndexArray, FloatArray]

    @classmethod
    def of(cls, pairs: AdjacentPairs, unigram: FloatArray, shrinkage: float) -> AdjacentEvidence:
        """Weigh counts.

        Args:
            pairs: of the training data.
            unigram: float64 ``[R]``; P.
            shrinkage: s, how many observations of a neighbour the unigram is worth; positive.
        """
        left, right = np.divmod(pairs.keys, pairs.size)
        mirrored = right * pairs.size + left
        order = np.argsort(mirrored)
        return cls(
            pairs.size,
            (pairs.keys, np.log1p(pairs.counts / (shrinkage * unigram[right]))),
            (mirrored[order], np.log1p(pairs.counts / (shrinkage * unigram[left]))[order]),
        )

    def ratios(self, left: IndexArray, right: IndexArray) -> FloatArray:
        """Return the summed ratios, float64 ``[M, R]``.

        Args:
            left: int64 ``[M]``; codes of the tokens before the targets, R for nothing to see.
            right: int64 ``[M]``; codes of those after them.
        """
        summed = np.zeros((len(left), self.size))
        for (keys, ratios), neighbours in ((self.after, left), (self.before, right)):
            first = np.searchsorted(keys, neighbours * self.size)
            lengths = np.searchsorted(keys, (neighbours + 1) * self.size) - first
            rows = np.repeat(np.arange(len(neighbours)), lengths)
            within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            entries = np.repeat(first, lengths) + within
            summed[rows, keys[entries] - neighbours[rows] * self.size] += ratios[entries]
        return summed
