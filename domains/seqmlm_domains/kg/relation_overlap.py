"""Relations that say again what another one says, or its reverse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.ranking import Triples

OverlapKind = Literal["symmetric", "inverse", "duplicate"]

SHARE: Final = 0.8
"""Of the pairs of both relations (Akrami et al., SIGMOD 2020)."""

FEWEST_TRIPLES: Final = 10
"""Relations of fewer triples overlap by chance."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RelationOverlap:
    """Two relations that hold for the same pairs of entities.

    Args:
        kind: ``duplicate`` for the same pairs, ``inverse`` for reversed ones, ``symmetric`` for a
            relation that is its own inverse.
        relation: identifier.
        other: identifier; that of ``relation`` if symmetric.
        share: of the pairs of ``relation`` that the other one has.
        other_share: of the pairs of ``other``.
    """

    kind: OverlapKind
    relation: str
    other: str
    share: float
    other_share: float


def relation_overlaps(triples: Triples, relations: Sequence[str]) -> list[RelationOverlap]:
    """Return the relations with at least :data:`SHARE` of their pairs in common.

    Triples whose head is their tail say nothing about direction and are left out. Cost: for each
    pair of entities, the product of how many relations hold in each direction.

    Args:
        triples: int64 ``[n, 3]``, all different.
        relations: identifiers by number.
    """
    triples = triples[triples[:, Part.HEAD] != triples[:, Part.TAIL]]
    sizes = np.bincount(triples[:, Part.RELATION], minlength=len(relations))
    found: list[RelationOverlap] = []
    for is_reversed in (False, True):
        first, second, common = _common_pairs(triples, len(relations), is_reversed)
        share, other_share = common / sizes[first], common / sizes[second]
        enough = np.minimum(sizes[first], sizes[second]) >= FEWEST_TRIPLES
        both = enough & (np.minimum(share, other_share) >= SHARE)
        for index in np.flatnonzero(both).tolist():
            left, right = int(first[index]), int(second[index])
            if left > right or (left == right and not is_reversed):
                continue
            kind: OverlapKind = "inverse" if is_reversed else "duplicate"
            found.append(
                RelationOverlap(
                    "symmetric" if left == right else kind,
                    relations[left],
                    relations[right],
                    float(share[index]),
                    float(other_share[index]),
                )
            )
    return found


def _common_pairs(
    triples: Triples, num_relations: int, is_reversed: bool
) -> tuple[Numbers, Numbers, Numbers]:
    """Every two relations with a pair in common, and how many pairs those are."""
    heads, tails = triples[:, Part.HEAD], triples[:, Part.TAIL]
    size = int(triples.max(initial=0)) + 1
    order = np.argsort(heads * size + tails, kind="stable")
    pairs = (heads * size + tails)[order]
    relations = triples[order, Part.RELATION]
    wanted = tails * size + heads if is_reversed else heads * size + tails
    begin, end = np.searchsorted(pairs, wanted), np.searchsorted(pairs, wanted, side="right")
    counts = end - begin
    first = np.repeat(triples[:, Part.RELATION], counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    second = relations[np.repeat(begin, counts) + within]
    both, common = np.unique(first * num_relations + second, return_counts=True)
    return both // num_relations, both % num_relations, common
