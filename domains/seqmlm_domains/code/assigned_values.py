"""What names are given in a source text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import tree_sitter


@dataclass(frozen=True, slots=True)
class AssignedValue:
    """What a name is given where it is assigned.

    Args:
        start: first byte of the name.
        value: the expression.
        scope: number of the one around it.
        step: what of the value the name is given, see
            :data:`~seqmlm_domains.code.generic_types.EACH`; the value itself if empty.
    """

    start: int
    value: tree_sitter.Node
    scope: int
    step: bytes = b""


def last_before(values: Sequence[AssignedValue], start: int) -> AssignedValue | None:
    """Return the last one that is whole before a byte, else the first behind it.

    Args:
        values: of one name, in order.
        start: the byte.
    """
    behind = bisect_right(values, start, key=attrgetter("start"))
    for place in range(behind - 1, -1, -1):
        if values[place].value.end_byte <= start:
            return values[place]
    return values[behind] if behind < len(values) else None
