"""Named entities as spans of words, read from BIO labels, and their F1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OUTSIDE = "O"
_BIO_LABEL = re.compile(r"O|[BI]-.+")


@dataclass(frozen=True, slots=True)
class Entity:
    """Words ``start`` to ``end``, the latter excluded, of one type."""

    start: int
    end: int
    kind: str


def are_bio(labels: Iterable[str]) -> bool:
    """Whether all labels are ``O``, ``B-TYPE`` or ``I-TYPE``, at least one of them a type."""
    different = set(labels)
    return bool(different - {OUTSIDE}) and not not_bio(different)


def not_bio(labels: Iterable[str]) -> list[str]:
    """Return the labels that are neither ``O`` nor ``B-TYPE`` nor ``I-TYPE``."""
    return [label for label in labels if not _BIO_LABEL.fullmatch(label)]


def complete_bio(labels: Sequence[str]) -> list[str]:
    """Return ``O`` and both labels of every type that occurs, sorted by type."""
    kinds = sorted({label[2:] for label in labels if label != OUTSIDE})
    return [OUTSIDE, *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]


def decode_bio(labels: Sequence[str]) -> list[Entity]:
    """Return the entities of a sentence, in order.

    As in the CoNLL evaluation and seqeval's default mode: an entity begins at ``B``, and also at
    an ``I`` whose predecessor is outside or of another type.
    """
    found: list[Entity] = []
    start, kind = 0, ""
    for position, label in enumerate([*labels, OUTSIDE]):
        continues = label.startswith("I-") and label[2:] == kind
        if continues:
            continue
        if kind:
            found.append(Entity(start, position, kind))
        start, kind = position, "" if label == OUTSIDE else label[2:]
    return found


def begins_inside(labels: Sequence[str]) -> int:
    """Return how many entities of a sentence begin with an ``I`` instead of a ``B``."""
    return sum(labels[entity.start].startswith("I-") for entity in decode_bio(labels))


def entity_counts(true: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """Return how many entities agree in span and type, are predicted, and are true."""
    expected, found = set(decode_bio(true)), set(decode_bio(predicted))
    return len(expected & found), len(found), len(expected)
