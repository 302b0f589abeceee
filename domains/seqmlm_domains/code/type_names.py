"""Where the tree holds the name of a type, of what a node declares, and of what is called."""

from __future__ import annotations

import re
from typing import Final

import tree_sitter

from seqmlm_domains.code.languages.language import LAST_PART, ONLY_PART, TypeRules

NAME: Final = re.compile(rb"[\w$]+", re.ASCII)
_NAME_AND_ARGUMENT: Final = 2


def type_name(node: tree_sitter.Node, source: bytes, rules: TypeRules) -> bytes | None:
    """Return the simple name of a type; None if it has none, such as a function's type."""
    suffix = b""
    inner: tree_sitter.Node | None = node
    while inner is not None:
        kind = inner.type
        if kind in rules.name_kinds:
            name = source[inner.start_byte : inner.end_byte]
            is_name = NAME.fullmatch(name) is not None and name.decode() not in rules.untyped
            return name + suffix if is_name else None
        if kind in rules.array_kinds:
            suffix += b"[]"
        inner = _inner_type(inner, source, rules)
    return None


def last_name(
    node: tree_sitter.Node, rules: TypeRules, identifier_kinds: frozenset[str]
) -> tree_sitter.Node | None:
    """Return the name that an expression ends in: of a call that of the function."""
    inner: tree_sitter.Node | None = node
    while inner is not None and (field := rules.wholes.get(inner.type)) is not None:
        inner = inner.child_by_field_name(field)
    return inner if inner is not None and inner.type in identifier_kinds else None


def declared_name(
    holder: tree_sitter.Node, field: str, identifier_kinds: frozenset[str]
) -> tree_sitter.Node | None:
    """Return the identifier that a node declares, or what stands in its place."""
    if field != ONLY_PART:
        return holder.child_by_field_name(field)
    for child in holder.named_children:
        if (named := child.child_by_field_name("name")) is not None:
            return named
    own = (child for child in holder.named_children if child.type in identifier_kinds)
    return next(own, None)


def _inner_type(node: tree_sitter.Node, source: bytes, rules: TypeRules) -> tree_sitter.Node | None:
    """The part of a type that names it."""
    if rules.optional and len(node.named_children) == _NAME_AND_ARGUMENT:
        name, argument = node.named_children
        if (type_name(name, source, rules) or b"").decode() in rules.optional:
            return argument
    field = rules.parts.get(node.type)
    if field is None or field not in (ONLY_PART, LAST_PART):
        return None if field is None else node.child_by_field_name(field)
    parts = [part for part in node.named_children if part.type not in rules.passed_over]
    if len(parts) > 1 and field == ONLY_PART:
        parts = [
            part
            for part in parts
            if source[part.start_byte : part.end_byte].decode() not in rules.empty
        ]
    is_found = len(parts) == 1 or (parts and field == LAST_PART)
    return parts[-1] if is_found else None
