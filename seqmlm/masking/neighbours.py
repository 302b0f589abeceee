"""Units that the training data uses alike: the distributional neighbours of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import IntArray
from seqmlm.errors import DataError
from seqmlm.masking.cooccurrence import cooccurrences
from seqmlm.masking.fitting import maskable_tokens
from seqmlm.masking.unit_table import Unit, units_of

if TYPE_CHECKING:
    from seqmlm.domain import Domain

FloatArray = npt.NDArray[np.float32]

MOST_UNITS = 10_000
FEWEST_OCCURRENCES = 5
"""Units that occur less often say too little about themselves."""

WINDOW = 2
"""Units on either side that describe a unit. A wider one finds words of the same topic, which would
not fit in its place."""

DIMENSIONS = 100
NUM_NEIGHBOURS = 10
LEAST_SIMILARITY = 0.1
CONTEXT_EXPONENT = 0.75
_ROWS_AT_ONCE = 500


def distributional_neighbours(
    domain: Domain, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]
) -> Iterator[tuple[Unit, Unit, float]]:
    """Yield up to ten units of as many tokens that stand in the most similar surroundings.

    Positive pointwise mutual information of units within 2 places, frequencies of contexts
    smoothed by the power 0.75; its best approximation of rank 100, singular values to the power
    1/2; cosine similarity (Levy, Goldberg & Dagan 2015, "Improving distributional similarity with
    lessons learned from word embeddings"). It takes the place of MacBERT's word2vec.

    Read are the first two million tokens; compared the 10,000 most frequent units of at least 5
    occurrences, described by their 1,000 most frequent neighbours. Three seconds a million tokens
    and ten at most for the rest; 200 MB at most. Equal data give equal neighbours on one machine.

    Args:
        domain: gives units.
        sequences: stored tokens of the training records.

    Yields:
        Unit, neighbour, and their cosine similarity as the weight, at least 0.1.

    Raises:
        DataError: fewer than two units occur often enough.
    """
    counts: Counter[Unit] = Counter()
    for ids, units in maskable_tokens(domain, sequences):
        counts.update(units_of(ids, units))
    # Sorted by frequency, then by ids: the order in which units come must not matter.
    frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_UNITS]
    units_by_number = [unit for unit, count in frequent if count >= FEWEST_OCCURRENCES]
    if len(units_by_number) < 2:
        raise DataError(
            f"similar corruptor: table = 'corpus' needs at least two units that occur "
            f"{FEWEST_OCCURRENCES} times or more in the training data; there are "
            f"{len(units_by_number)}. Give more data or the path of a table."
        )
    frequencies = np.array([count for _, count in frequent[: len(units_by_number)]])
    numbers = {unit: number for number, unit in enumerate(units_by_number)}
    numbered = _Numbered(domain, sequences, numbers)
    embeddings = unit_embeddings(cooccurrences(numbered, frequencies, window=WINDOW))
    lengths = np.array([len(unit) for unit in units_by_number])
    for length in np.unique(lengths):
        alike = np.flatnonzero(lengths == length)
        for number, others, similarities in _nearest(embeddings[alike]):
            for other, similarity in zip(others, similarities, strict=True):
                if similarity >= LEAST_SIMILARITY:
                    unit, neighbour = (units_by_number[alike[i]] for i in (number, other))
                    yield unit, neighbour, float(similarity)


def unit_embeddings(counts: npt.NDArray[np.uint32], dimensions: int = DIMENSIONS) -> FloatArray:
    """Return unit vectors of the rows of a table of co-occurrences.

    The singular vectors come from the eigenvectors of the contexts' products: exact, and cheap as
    long as contexts are few.

    Args:
        counts: uint32 ``[items, contexts + 1]``; see
            :func:`~seqmlm.masking.cooccurrence.cooccurrences`. The last column only adds to sums.
        dimensions: at most so many are kept.

    Returns:
        float32 ``[items, dimensions]``; zero for an item without positive information.
    """
    total = counts.sum(axis=0, dtype=np.float64) ** CONTEXT_EXPONENT
    with np.errstate(divide="ignore", invalid="ignore"):
        information = counts[:, :-1].astype(np.float32)
        information /= counts.sum(axis=1, dtype=np.float64)[:, None].astype(np.float32)
        information /= (total[:-1] / total.sum()).astype(np.float32)
        np.log(information, out=information)
    np.nan_to_num(information, copy=False, nan=0.0, neginf=0.0)
    np.maximum(information, 0, out=information)
    values, vectors = np.linalg.eigh((information.T @ information).astype(np.float64))
    kept = np.argsort(-values)[:dimensions]
    kept = kept[values[kept] > 1e-6 * values.max()]
    # With the singular values s = sqrt(values), information @ vectors is u s; u sqrt(s) is wanted.
    embeddings = information @ (vectors[:, kept] / values[kept] ** 0.25).astype(np.float32)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings / np.where(norms > 0, norms, 1)  # type: ignore[no-any-return]


def _nearest(embeddings: FloatArray) -> Iterator[tuple[int, IntArray, FloatArray]]:
    """For every row the most similar other ones, best first, and their cosines."""
    count = min(NUM_NEIGHBOURS, len(embeddings) - 1)
    for start in range(0, len(embeddings) if count else 0, _ROWS_AT_ONCE):
        similarities = embeddings[start : start + _ROWS_AT_ONCE] @ embeddings.T
        own = np.arange(len(similarities))
        similarities[own, start + own] = -np.inf
        best = np.argpartition(-similarities, count - 1, axis=1)[:, :count]
        for row, others in enumerate(best):
            found = similarities[row, others]
            order = np.argsort(-found, kind="stable")
            yield start + row, others[order], found[order]


class _Numbered:
    """The frequent units of each record as numbers, -1 for others; iterates anew each time."""

    def __init__(
        self,
        domain: Domain,
        sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]],
        numbers: dict[Unit, int],
    ) -> None:
        self._domain, self._sequences, self._numbers = domain, sequences, numbers

    def __iter__(self) -> Iterator[tuple[IntArray, IntArray]]:
        for ids, units in maskable_tokens(self._domain, self._sequences):
            found = [self._numbers.get(unit, -1) for unit in units_of(ids, units)]
            yield np.array(found, np.int32), np.arange(len(found), dtype=np.int32)
