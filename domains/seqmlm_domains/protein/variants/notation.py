"""How variants are written, and what they make of the wild type.

========================  ==========================================================
``A42G``                  alanine 42 becomes glycine
``A42G:K55R``             several at once; ``,`` and ``;`` part them too
``A42del``, ``A42_K44del``  residues are deleted
``A42_G43insTS``          residues are inserted between neighbours
``WT``, ``_wt``           the wild type itself
``MSIQHFRV...``           letters alone: the whole sequence of the variant
========================  ==========================================================

Case does not matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from seqmlm.errors import DataError
from seqmlm_domains.protein.tokenizer import STANDARD_RESIDUES

SEPARATORS: Final = re.compile(r"[:,;]")
WILD_TYPE_NAMES: Final = ("WT", "_WT")
NOTHING: Final = ("", "NA", "NAN")
"""How tables spell an empty cell: asparagine-alanine alone is nobody's variant."""

_SHOWN = 12
_RESIDUE = r"([A-Z*?-])(-?\d+)"
_SUBSTITUTION = re.compile(_RESIDUE + r"([A-Z*?-])")
_DELETION = re.compile(rf"{_RESIDUE}(?:_{_RESIDUE})?DEL")
_INSERTION = re.compile(rf"{_RESIDUE}_{_RESIDUE}INS([A-Z*?-]+)")
_SEQUENCE = re.compile(r"[A-Z]+\*?")
_STOP_CODON = re.compile(rf"{_RESIDUE}(?:TER|STOP)")


class UnscorableVariantError(DataError):
    """A variant has no score; the message is the reason that stands in its row."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A residue of the wild type that a mutation names.

    Args:
        letter: one-letter code, upper case.
        number: as written; what it counts from is not known here.
    """

    letter: str
    number: int

    def __str__(self) -> str:
        return f"{self.letter}{self.number}"


@dataclass(frozen=True, slots=True)
class Mutation:
    """Residues from the first anchor to the last are replaced, or stand around an insertion.

    Args:
        anchors: one or two.
        letters: what comes in their place; for an insertion, what comes between them.
        is_insertion: whether both anchors stay.
    """

    anchors: tuple[Anchor, ...]
    letters: str
    is_insertion: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """Mutations of a wild type, or the sequence that they make of it.

    Args:
        mutations: none of which touch each other; none for the wild type.
        sequence: the whole sequence, where the variant is written so.
    """

    mutations: tuple[Mutation, ...] = ()
    sequence: str | None = None

    def moves_residues(self, wild_type: str) -> bool:
        """Whether it inserts or deletes, so that sites of the two sequences do not correspond."""
        if self.sequence is not None:
            return len(self.sequence) != len(wild_type)
        return any(mutation.is_insertion or not mutation.letters for mutation in self.mutations)

    def applied_to(self, wild_type: str, *, offset: int) -> str:
        """Return the sequence of the variant.

        Args:
            wild_type: one-letter codes, upper case.
            offset: the number that its first residue bears.

        Raises:
            UnscorableVariantError: a residue is not where it should be, is none of the 20, or two
                mutations meet.
        """
        if self.sequence is not None:
            try:
                refuse_non_standard("".join(sorted({*self.sequence} - {*wild_type})))
            except UnscorableVariantError as error:
                shown = self.sequence[:_SHOWN] + "..." * (len(self.sequence) > _SHOWN)
                raise UnscorableVariantError(f"{error}; {shown} was read as a sequence") from error
            return self.sequence
        edits = sorted(
            ((*_place(wild_type, mutation, offset), mutation) for mutation in self.mutations),
            key=lambda edit: edit[:2],
        )
        sequence, done = "", 0
        for start, end, mutation in edits:
            if start < done:
                raise UnscorableVariantError(
                    f"two mutations meet at {mutation.anchors[0]}: write each residue once"
                )
            sequence += wild_type[done:start] + mutation.letters
            done = end
        sequence += wild_type[done:]
        if not sequence:
            raise UnscorableVariantError("every residue is deleted")
        return sequence


def parse_variant(text: str) -> Variant:
    """Read one variant.

    Raises:
        UnscorableVariantError: a part is in none of the notations above, or a stop codon.
    """
    upper = text.strip().upper()
    if upper in NOTHING:
        raise UnscorableVariantError("no mutation is given")
    if upper in WILD_TYPE_NAMES:
        return Variant()
    if _SEQUENCE.fullmatch(upper):
        return Variant(sequence=upper.removesuffix("*"))
    return Variant(tuple(_parse_mutation(part.strip()) for part in SEPARATORS.split(upper)))


def refuse_non_standard(letters: str) -> None:
    """Check that every residue has a probability.

    Raises:
        UnscorableVariantError: one is a stop codon, or none of the 20.
    """
    for letter in letters:
        if letter == "*":
            raise UnscorableVariantError("stop codon: there is no residue to score")
        if letter not in STANDARD_RESIDUES:
            raise UnscorableVariantError(
                f"{letter!r} is none of the 20 standard residues: it has no probability"
            )


def _parse_mutation(part: str) -> Mutation:
    if found := _SUBSTITUTION.fullmatch(part):
        refuse_non_standard(found[3])
        return Mutation((Anchor(found[1], int(found[2])),), found[3])
    if found := _DELETION.fullmatch(part):
        anchors = [Anchor(found[1], int(found[2]))]
        if found[3]:
            anchors.append(Anchor(found[3], int(found[4])))
        return Mutation(tuple(anchors), "")
    if found := _INSERTION.fullmatch(part):
        refuse_non_standard(found[5])
        anchors = [Anchor(found[1], int(found[2])), Anchor(found[3], int(found[4]))]
        return Mutation(tuple(anchors), found[5], is_insertion=True)
    if _STOP_CODON.fullmatch(part):
        raise UnscorableVariantError("stop codon: there is no residue to score")
    raise UnscorableVariantError(
        f"{part!r} is no mutation: write A42G, A42del, A42_K44del, A42_G43insTS or a sequence"
    )


def _place(wild_type: str, mutation: Mutation, offset: int) -> tuple[int, int]:
    """Start and end of what is replaced, as indices of the wild type."""
    indices = [_index(wild_type, anchor, offset) for anchor in mutation.anchors]
    first, last = indices[0], indices[-1]
    if mutation.is_insertion:
        if last != first + 1:
            raise UnscorableVariantError(
                f"{mutation.anchors[0]} and {mutation.anchors[1]} are no neighbours: an insertion "
                "stands between two"
            )
        return last, last
    if last < first:
        raise UnscorableVariantError(f"{mutation.anchors[-1]} comes before {mutation.anchors[0]}")
    return first, last + 1


def _index(wild_type: str, anchor: Anchor, offset: int) -> int:
    index = anchor.number - offset
    if not 0 <= index < len(wild_type):
        raise UnscorableVariantError(
            f"{anchor} is outside of the wild type, which has residues {offset} to "
            f"{offset + len(wild_type) - 1}"
        )
    if wild_type[index] != anchor.letter:
        raise UnscorableVariantError(
            f"{anchor} does not match the wild type, which has {wild_type[index]} at "
            f"{anchor.number}"
        )
    return index
