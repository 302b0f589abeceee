"""Which type the source declares for an identifier: found in the tree, resolved by scope.

Within one file and by name alone: a use of a variable has the type of the declaration that it
meets first on the way out of its scopes. Members of other objects are not resolved.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import tree_sitter

from seqmlm_domains.code.languages.language import (
    LAST_PART,
    ONLY_PART,
    Declaration,
    Language,
    TypeRules,
)
from seqmlm_domains.code.roles import Role

NO_TYPE: Final = -1

_CALLED: Final = b"("  # behind the names of functions, where a field may have the same one
_NAME = re.compile(rb"[\w$]+", re.ASCII)
_WORD_END = re.compile(rb"[\w$]", re.ASCII)
_PRIVATE_SIGN: Final = b"#"
_RESOLVED: Final = frozenset(
    {Role.READ, Role.ATTRIBUTE, Role.CALL, Role.VARIABLE, Role.PARAMETER, Role.FUNCTION}
)

_Place = tuple[int, bytes | None]
"""First byte of a declared name, and its type; None where none can be told."""


@dataclass(frozen=True, slots=True, eq=False)
class DeclaredTypes:
    """The declared types of some identifiers.

    Args:
        numbers: int32 ``[identifiers]``, into ``names``; :data:`NO_TYPE` where none is declared.
        names: simple names without generics, such as ``List``, ``int`` or ``char[]``.
    """

    numbers: npt.NDArray[np.int32]
    names: tuple[str, ...]

    @classmethod
    def of(cls, types: Sequence[bytes | None]) -> DeclaredTypes:
        """Number the types of identifiers in the order in which they occur."""
        number_of: dict[bytes | None, int] = {None: NO_TYPE}
        for name in types:
            number_of.setdefault(name, len(number_of) - 1)
        numbers = np.fromiter((number_of[name] for name in types), np.int32, len(types))
        return cls(numbers, tuple(name.decode() for name in number_of if name is not None))

    def part(self, start: int, end: int) -> DeclaredTypes:
        """Return the types of a range of the identifiers."""
        return DeclaredTypes(self.numbers[start:end], self.names)


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where declarations hold: places by name, in the order of the source."""

    parent: int
    end: int
    is_class: bool
    places: dict[bytes, list[_Place]]


class Scopes:
    """The declarations of a file, collected in the order of its nodes and then asked by name.

    Args:
        source: text of the file in UTF-8.
        language: gives the rules.
    """

    def __init__(self, source: bytes, language: Language) -> None:
        self._source, self._rules = source, language.types
        self._identifier_kinds = language.identifier_kinds
        self._scopes = [_Scope(-1, len(source) + 1, is_class=False, places={})]
        self._innermost = 0
        self._typed_names: set[bytes] = set()
        self._declared_at: dict[int, bytes] = {}

    def visit(self, node: tree_sitter.Node, kind: str) -> None:
        """Note what a node declares, and open its scope; in the order of the source."""
        outer = self.at(node.start_byte)
        if (declaration := self._rules.declarations.get(kind)) is not None:
            self._declare(node, declaration, outer)
        if kind in self._rules.scopes:
            self._innermost = len(self._scopes)
            is_class = kind in self._rules.class_scopes
            self._scopes.append(_Scope(outer, node.end_byte, is_class=is_class, places={}))

    def at(self, byte: int) -> int:
        """Return the number of the innermost scope at a byte; bytes must not decrease."""
        while self._scopes[self._innermost].end <= byte:
            self._innermost = self._scopes[self._innermost].parent
        return self._innermost

    def type_of(
        self, start: int, end: int, role: Role, *, is_function: bool, scope: int
    ) -> bytes | None:
        """Return the declared type of an identifier, once every node is visited.

        Args:
            start: first byte.
            end: one past the last.
            role: what it does.
            is_function: whether it is called, or defines a function.
            scope: number of its innermost scope.
        """
        if role not in _RESOLVED:
            return None
        name = self._key(self._source[start:end], is_function=is_function)
        if name not in self._typed_names:
            return None
        if role == Role.ATTRIBUTE:
            first = self._class_around(scope) if self.is_own_member(start) else -1
            return _nearest(self._scopes[first].places.get(name), start) if first >= 0 else None
        # The name of a function stands inside the function, and is declared around it.
        first = self._scopes[scope].parent if role == Role.FUNCTION else scope
        scope = first
        while scope >= 0:
            known = self._scopes[scope]
            is_visible = scope == first or not known.is_class or self._rules.members_are_in_scope
            if is_visible and name in known.places:
                return _nearest(known.places[name], start)
            scope = known.parent
        return None

    @property
    def nesting(self) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Parent of every scope, -1 of the whole text, and whether it is that of a class."""
        return tuple(scope.parent for scope in self._scopes), tuple(
            scope.is_class for scope in self._scopes
        )

    def declared_at(self, start: int) -> bytes | None:
        """Return the type that is declared for a name right there, at its first byte."""
        return self._declared_at.get(start)

    def name_start(self, name: tree_sitter.Node) -> int:
        """Return the first byte of the name that a node is, the sign of a private one left out."""
        return name.start_byte + self._source.startswith(_PRIVATE_SIGN, name.start_byte)

    def is_own_member(self, start: int) -> bool:
        """Say whether the method's own object and a dot stand before a name, at a byte."""
        start -= self._source.startswith(_PRIVATE_SIGN, start - 1)
        own = self._rules.own_object.encode() + b"."
        before = start - len(own)
        if not self._source.endswith(own, 0, start):
            return False
        return before == 0 or _WORD_END.match(self._source, before - 1) is None

    def hide(self, start: int, end: int, scope: int) -> None:
        """Note a parameter without a type: it hides what is declared further out."""
        places = self._scopes[scope].places.setdefault(self._source[start:end], [])
        if not places:
            places.append((start, None))

    def _declare(self, node: tree_sitter.Node, declaration: Declaration, scope: int) -> None:
        type_name = self._declared_type(node, declaration)
        holders = [node]
        if declaration.declarators:
            holders = node.children_by_field_name(declaration.declarators)
        for holder in holders:
            name = _part(holder, declaration.name, self._identifier_kinds)
            own = scope
            if name is not None and name.type not in self._identifier_kinds:
                name = name.children[-1] if name.children else None  # as of `self.name: int`
                own = self._class_around(scope)
                if name is None or not self.is_own_member(name.start_byte):
                    own = -1
            if name is None or own < 0:
                continue
            start = self.name_start(name)
            text = self._source[start : name.end_byte]
            key = self._key(text, is_function=declaration.is_function)
            self._scopes[own].places.setdefault(key, []).append((start, type_name))
            if type_name is not None:
                self._typed_names.add(key)
                self._declared_at[start] = type_name

    def _declared_type(self, node: tree_sitter.Node, declaration: Declaration) -> bytes | None:
        if declaration.type == ONLY_PART:
            candidates: list[tree_sitter.Node] = node.named_children
        else:
            candidates = node.children_by_field_name(declaration.type)
        names = (type_name(each, self._source, self._rules) for each in candidates)
        return next((name for name in names if name is not None), None)

    def _key(self, name: bytes, *, is_function: bool) -> bytes:
        return name + _CALLED if is_function and self._rules.members_are_in_scope else name

    def _class_around(self, scope: int) -> int:
        while scope >= 0 and not self._scopes[scope].is_class:
            scope = self._scopes[scope].parent
        return scope


def type_name(node: tree_sitter.Node, source: bytes, rules: TypeRules) -> bytes | None:
    """Return the simple name of a type; None if it has none, such as a function's type."""
    suffix = b""
    inner: tree_sitter.Node | None = node
    while inner is not None:
        kind = inner.type
        if kind in rules.name_kinds:
            name = source[inner.start_byte : inner.end_byte]
            is_name = _NAME.fullmatch(name) is not None and name.decode() not in rules.untyped
            return name + suffix if is_name else None
        if kind in rules.array_kinds:
            suffix += b"[]"
        inner = _inner_type(inner, source, rules)
    return None


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


def _part(
    holder: tree_sitter.Node, field: str, identifier_kinds: frozenset[str]
) -> tree_sitter.Node | None:
    """The identifier that a node declares, or what stands in its place."""
    if field != ONLY_PART:
        return holder.child_by_field_name(field)
    for child in holder.named_children:
        if (named := child.child_by_field_name("name")) is not None:
            return named
    own = (child for child in holder.named_children if child.type in identifier_kinds)
    return next(own, None)


def _nearest(places: Sequence[_Place] | None, start: int) -> bytes | None:
    """The type of the last declaration before a name, else of the first; without one, None."""
    typed = [place for place in places or () if place[1] is not None]
    before = [name for place, name in typed if place <= start]
    if before:
        return before[-1]
    return typed[0][1] if typed else None
