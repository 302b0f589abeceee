"""What names are given in a source text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import tree_sitter

from seqmlm_domains.code.languages.language import TypeRules
from seqmlm_domains.code.type_names import unwrapped

_OPERATOR: Final = "operator"


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


def may_tell(value: tree_sitter.Node, rules: TypeRules, identifier_kinds: frozenset[str]) -> bool:
    """Say whether the type of an expression may be told.

    Args:
        value: the expression.
        rules: of the language.
        identifier_kinds: kinds of nodes that are names.
    """
    inner = unwrapped(value, rules)
    if inner.type in rules.choices:
        return bool(given_values(inner, rules))
    return inner.type in rules.telling or inner.type in identifier_kinds


def given_values(node: tree_sitter.Node, rules: TypeRules) -> list[tree_sitter.Node]:
    """Return the expressions one of which a choice gives the value of.

    Args:
        node: that chooses, such as ``a or b``.
        rules: of the language.
    """
    operator = node.child_by_field_name(_OPERATOR)
    key = node.type if operator is None else operator.type
    chosen = rules.choices[node.type].get(key, ())
    parts = [
        node.child_by_field_name(part) if isinstance(part, str) else _part(node, part)
        for part in chosen
    ]
    return [part for part in parts if part is not None]


def _part(node: tree_sitter.Node, number: int) -> tree_sitter.Node | None:
    return node.named_children[number] if node.named_child_count > number else None


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
