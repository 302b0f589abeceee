"""Where the tree holds the type of what a node declares, and the name of what is called."""

from __future__ import annotations

import re
from typing import Final

import tree_sitter

from seqmlm_domains.code.generic_types import UNKNOWN, simple, spelled
from seqmlm_domains.code.languages.language import LAST_PART, ONLY_PART, TypeRules

NAME: Final = re.compile(rb"[\w$]+", re.ASCII)
ARRAY: Final = b"[]"
_NAME_AND_ARGUMENT: Final = 2
_BRACKETS: Final = 2
_INDEX: Final = "subscript"
_DEEPEST: Final = 3
"""Arguments of arguments that are told."""


def find_type(
    node: tree_sitter.Node, source: bytes, rules: TypeRules, *, depth: int = 0
) -> bytes | None:
    """Return a type as :mod:`~seqmlm_domains.code.generic_types` spells it.

    None if it has no name, such as a function's type.

    Args:
        node: that is the type, or holds nothing else.
        source: text of the file in UTF-8.
        rules: of the language.
        depth: in how many other types it is an argument.
    """
    arrays = 0
    arguments: list[bytes] = []
    inner: tree_sitter.Node | None = node
    while inner is not None:
        kind = inner.type
        if kind in rules.name_kinds:
            name = source[inner.start_byte : inner.end_byte]
            if NAME.fullmatch(name) is None or name.decode() in rules.untyped:
                return None
            if name.decode() in rules.tuples and len(arguments) > 1:
                arguments = []
            return array_of(spelled(name, arguments), arrays)
        if (argument := _of_optional(inner, source, rules)) is not None:
            inner = argument
            continue
        if kind in rules.array_kinds:
            signs = inner.child_by_field_name("dimensions")
            arrays += 1 if signs is None else signs.child_count // _BRACKETS
        if kind in rules.generics and depth < _DEEPEST:
            arguments = _arguments(inner, source, rules, depth)
        inner = _inner_type(inner, source, rules)
    return None


def array_of(type_: bytes, dimensions: int = 1) -> bytes:
    """Return the type of an array."""
    if not dimensions:
        return type_
    name = simple(type_) + ARRAY * dimensions
    return name if dimensions > _DEEPEST else spelled(name, [array_of(type_, dimensions - 1)])


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


def made_type(
    node: tree_sitter.Node, source: bytes, rules: TypeRules, identifier_kinds: frozenset[str]
) -> bytes | None:
    """Return the type of the object that an expression makes, of a class in a module its name."""
    named = node.child_by_field_name(rules.constructions[node.type])
    if named is None:
        return None
    found = find_type(named, source, rules)
    if found is not None:
        return found
    name = last_name(named, rules, identifier_kinds)
    if name is None:
        return None
    return spelled(source[name.start_byte : name.end_byte], _arguments(node, source, rules, 0))


def unwrapped(node: tree_sitter.Node, rules: TypeRules) -> tree_sitter.Node:
    """Return what an expression has its type of."""
    while node.type in rules.wrappers and node.named_children:
        node = node.named_children[0]
    return node


def _arguments(node: tree_sitter.Node, source: bytes, rules: TypeRules, depth: int) -> list[bytes]:
    """The arguments of a generic type."""
    lists = (child for child in node.named_children if child.type in rules.argument_lists)
    parts = next((child.named_children for child in lists), node.children_by_field_name(_INDEX))
    return [
        find_type(part, source, rules, depth=depth + 1) or UNKNOWN
        for part in parts
        if source[part.start_byte : part.end_byte].decode() not in rules.empty
    ]


def _of_optional(
    node: tree_sitter.Node, source: bytes, rules: TypeRules
) -> tree_sitter.Node | None:
    """The argument of a generic that has its type, or nothing."""
    if not rules.optional or len(node.named_children) != _NAME_AND_ARGUMENT:
        return None
    name, argument = node.named_children
    found = find_type(name, source, rules, depth=_DEEPEST) or b""
    return argument if found.decode() in rules.optional else None


def _inner_type(node: tree_sitter.Node, source: bytes, rules: TypeRules) -> tree_sitter.Node | None:
    """The part of a type that names it."""
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
