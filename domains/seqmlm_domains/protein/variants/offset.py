"""What the numbers in mutations count from, told by the wild-type letters beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from seqmlm_domains.protein.variants.notation import Anchor, Mutation

CONVENTIONS: Final = (1, 0)
"""Counting from 1, or from 0: taken unless the letters speak against both."""

MIN_RESIDUES: Final = 5
"""So many different residues must agree before another offset is believed: by chance a letter
agrees once in about 16, so five agree at a given offset once in a million."""


@dataclass(frozen=True, slots=True)
class OffsetChoice:
    """The number of the first residue of the wild type, and how sure that is.

    Args:
        offset: 1 where mutations count from 1.
        residues: different residues that the mutations name.
        matching: how many of them the wild type has there.
        also_possible: other offsets at which as many match, increasing, at most ten.
        is_given: whether the caller said so.
    """

    offset: int
    residues: int
    matching: int
    also_possible: tuple[int, ...] = ()
    is_given: bool = False

    def describe(self) -> str:
        """Return one line for people."""
        how = "given" if self.is_given else "detected"
        line = (
            f"numbering: the first residue is {self.offset} ({how}); {self.matching:,} of "
            f"{self.residues:,} residues named match the wild type"
        )
        if self.also_possible:
            others = ", ".join(map(str, self.also_possible))
            line += f"; at least as many would at {others}: say --offset if it is one of those"
        return line


def choose_offset(
    wild_type: str, variants: Iterable[Iterable[Mutation]], *, offset: int | None = None
) -> OffsetChoice:
    """Find the offset at which most residues that mutations name are where they should be.

    Counting from 1 wins ties, then counting from 0. Any other offset needs :data:`MIN_RESIDUES`
    and half of all residues, more than the two have, and no rival.

    Args:
        wild_type: one-letter codes.
        variants: mutations of each.
        offset: the number of the first residue, if it is known.
    """
    anchors = {
        anchor for mutations in variants for mutation in mutations for anchor in mutation.anchors
    }
    matches = _count_matches(wild_type, anchors)
    if offset is not None:
        return OffsetChoice(offset, len(anchors), matches[offset], is_given=True)
    chosen = max(CONVENTIONS, key=lambda convention: matches[convention])
    best = max(matches.values(), default=0)
    rivals = sorted(candidate for candidate, count in matches.items() if count == best)
    is_convincing = best >= MIN_RESIDUES and 2 * best >= len(anchors) and len(rivals) == 1
    if best > matches[chosen] and is_convincing:
        chosen = rivals[0]
    others = [rival for rival in rivals if rival != chosen and matches[rival] >= matches[chosen]]
    return OffsetChoice(chosen, len(anchors), matches[chosen], tuple(others[:10]))


def _count_matches(wild_type: str, anchors: Iterable[Anchor]) -> Counter[int]:
    """For each offset, how many residues match."""
    places: dict[str, list[int]] = {}
    for index, letter in enumerate(wild_type):
        places.setdefault(letter, []).append(index)
    return Counter(
        anchor.number - index for anchor in anchors for index in places.get(anchor.letter, [])
    )
