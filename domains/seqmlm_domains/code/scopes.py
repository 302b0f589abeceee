"""Which type the source declares for an identifier: found in the tree, resolved by scope.

Within one file and by name alone: a use of a variable has the type of the declaration that it
meets first on the way out of its scopes. Types of the members of other objects are told by
:mod:`~seqmlm_domains.code.expressions`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import tree_sitter

from seqmlm_domains.code.assigned_values import AssignedValue, last_before, may_tell
from seqmlm_domains.code.callbacks import object_that_calls, parameter_names
from seqmlm_domains.code.generic_types import EACH, ONLY
from seqmlm_domains.code.imports import NO_IMPORTS, ImportedNames, Imports, Original, Span
from seqmlm_domains.code.languages.language import ONLY_PART, Declaration, Language
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.type_names import array_of, declared_name, find_type

_CALLED: Final = b"("  # behind the names of functions, where a field may have the same one
_WORD_END = re.compile(rb"[\w$]", re.ASCII)
_PRIVATE_SIGN: Final = b"#"
_RESOLVED: Final = frozenset(
    {Role.READ, Role.ATTRIBUTE, Role.CALL, Role.VARIABLE, Role.PARAMETER, Role.FUNCTION}
)

_Place = tuple[int, bytes | None]
"""First byte of a declared name, and its type; None where none can be told."""

SUPER: Final = b"super"
_KEYS: Final = "in"
"""The operator of a loop that gives names of members."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of a text that is a part of another one.

    Args:
        class_name: of the class that it is a part of; None if it is of none.
        imports: of the text before it.
    """

    class_name: bytes | None = None
    imports: ImportedNames = NO_IMPORTS


NO_SURROUNDINGS: Final = Surroundings()


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where declarations hold: places by name, in the order of the source."""

    parent: int
    end: int
    is_class: bool
    class_name: bytes | None
    places: dict[bytes, list[_Place]]
    values: dict[bytes, list[AssignedValue]]


class Scopes:
    """The declarations of a file, collected in the order of its nodes and then asked by name.

    Args:
        source: text of the file in UTF-8.
        language: gives the rules.
        around: what it is a part of.

    Attributes:
        imports: of the text.
        heads: those of its classes.
    """

    def __init__(
        self, source: bytes, language: Language, around: Surroundings = NO_SURROUNDINGS
    ) -> None:
        self._source, self._rules = source, language.types
        self._identifier_kinds = language.identifier_kinds
        self._scopes = [_Scope(-1, len(source) + 1, False, None, {}, {})]
        self._around = around
        self._innermost = 0
        self._typed_names: set[bytes] = set()
        self._declared_at: dict[int, bytes] = {}
        self._classes: dict[bytes, int] = {}
        self._functions: dict[bytes, bytes] = {}
        self.heads: list[Span] = []
        self.imports = Imports(source, language)

    def visit(self, node: tree_sitter.Node, kind: str, around: Sequence[tree_sitter.Node]) -> None:
        """Note what a node declares, and open its scope; in the order of the source.

        Args:
            node: that is entered.
            kind: of the node.
            around: the nearest nodes around it, the innermost last.
        """
        outer = self.at(node.start_byte)
        if (declaration := self._rules.declarations.get(kind)) is not None:
            self._declare(node, declaration, outer)
        if (fields := self._rules.values.get(kind)) is not None:
            self._assign(outer, *map(node.child_by_field_name, fields))
        if (fields := self._rules.loops.get(kind)) is not None:
            self._loop(node, fields, outer)
        self.imports.visit(node, kind, outer)
        if kind in self._rules.scopes:
            self._innermost = len(self._scopes)
            is_class = kind in self._rules.class_scopes
            name = self._enter_class(node) if is_class else None
            self._scopes.append(_Scope(outer, node.end_byte, is_class, name, {}, {}))
        if (parameters := self._rules.callbacks.get(kind)) is not None:
            self._call_back(node, parameters, around)

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

    def assigned_to(self, name: bytes, start: int, scope: int) -> AssignedValue | None:
        """Return what a name was last given before it is used; None if it is declared nearer.

        Args:
            name: that is looked up in the scopes.
            start: its first byte.
            scope: number of its innermost scope.
        """
        first = scope
        while scope >= 0:
            known = self._scopes[scope]
            if scope == first or not known.is_class or self._rules.members_are_in_scope:
                if name in known.values:
                    return last_before(known.values[name], start)
                if name in known.places:
                    return None
            scope = known.parent
        return None

    def original(self, name: bytes, scope: int) -> Original | None:
        """Return what a name stands for by an import; None if that is called so itself.

        Args:
            name: that is looked up in the scopes.
            scope: number of its innermost scope.
        """
        while scope >= 0:
            if (scope, name) in self.imports.originals:
                return self.imports.originals[scope, name]
            known = self._scopes[scope]
            if name in known.places or name in known.values:
                return None
            scope = known.parent
        return self._around.imports.originals.get(name)

    def member_type(self, owner: bytes, name: bytes, *, is_function: bool) -> bytes | None:
        """Return the type that a class of the file declares for a member."""
        if owner not in self._classes:
            return None
        key = self._key(name, is_function=is_function)
        return _nearest(self._scopes[self._classes[owner]].places.get(key), len(self._source))

    def member_value(self, owner: bytes, name: bytes, start: int) -> AssignedValue | None:
        """Return what the class gives its member, before a byte if it does so there at all."""
        if owner not in self._classes:
            return None
        values = self._scopes[self._classes[owner]].values.get(name)
        return None if values is None else last_before(values, start)

    @property
    def functions(self) -> dict[bytes, bytes]:
        """Declared types of the results of the functions that are no members, by name."""
        return self._functions

    def members(self) -> Iterator[tuple[bytes, bytes, bytes | None, AssignedValue | None]]:
        """Yield class, name and declared type of each member, and what it is given.

        Behind the names of methods stand brackets, where a field may have the same one.
        """
        for owner, number in self._classes.items():
            scope = self._scopes[number]
            for key in dict.fromkeys([*scope.places, *scope.values]):
                name = key + b")" if key.endswith(_CALLED) else key
                values = scope.values.get(key)
                declared = _nearest(scope.places.get(key), len(self._source))
                yield owner, name, declared, values[-1] if values else None

    def is_declared(self, name: bytes, scope: int) -> bool:
        """Say whether a scope, or one around it, declares a name."""
        while scope >= 0:
            known = self._scopes[scope]
            if name in known.places or name in known.values:
                return True
            scope = known.parent
        return False

    def has_class(self, name: bytes) -> bool:
        """Say whether the file defines a class with members by that name."""
        return name in self._classes

    def class_of(self, scope: int) -> bytes | None:
        """Return the name of the class whose body a scope is; None if it is of none."""
        return self._scopes[scope].class_name if scope >= 0 else None

    def class_around(self, scope: int) -> bytes | None:
        """Return the name of the innermost class around a scope; None if it has none."""
        return self.class_of(self._class_around(scope)) or self._around.class_name

    def parent(self, scope: int) -> int:
        """Return the number of the scope around another one."""
        return self._scopes[scope].parent

    def own_class(self, end: int, scope: int) -> bytes | None:
        """Return the class whose own object, or that of its base, the code before a byte names."""
        for own in (self._rules.own_object.encode(), SUPER):
            if own and self._source.endswith(own, 0, end):
                before = end - len(own) - 1
                if before < 0 or _WORD_END.match(self._source, before) is None:
                    return self.class_around(scope)
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
            found = declared_name(holder, declaration.name, self._identifier_kinds)
            name, own = self._holder_of(found, scope)
            if name is None:
                continue
            start = self.name_start(name)
            text = self._source[start : name.end_byte]
            key = self._key(text, is_function=declaration.is_function)
            self._scopes[own].places.setdefault(key, []).append((start, type_name))
            if type_name is not None:
                self._typed_names.add(key)
                self._declared_at[start] = type_name
                if declaration.is_function and not own:
                    self._functions[text] = type_name

    def _holder_of(
        self, target: tree_sitter.Node | None, scope: int
    ) -> tuple[tree_sitter.Node | None, int]:
        """The name that is declared, and the number of the scope that holds it."""
        if target is None or target.type in self._identifier_kinds:
            return target, scope
        name = target.children[-1] if target.children else None  # as of `self.name: int`
        own = self._class_around(scope)
        if name is None or own < 0 or not self.is_own_member(name.start_byte):
            return None, -1
        return name, own

    def _assign(
        self,
        scope: int,
        value: tree_sitter.Node | None,
        target: tree_sitter.Node | None,
        *,
        step: bytes = b"",
    ) -> None:
        """Note what a name is given, if that tells its type."""
        if value is None or not may_tell(value, self._rules, self._identifier_kinds):
            return
        if target is not None and self.imports.load(target, value, scope):
            return
        name, own = self._holder_of(target, scope)
        if name is None:
            return
        start = self.name_start(name)
        key = self._source[start : name.end_byte]
        found = AssignedValue(start, value, scope, step)
        self._scopes[own].values.setdefault(key, []).append(found)

    def _loop(self, node: tree_sitter.Node, fields: tuple[str, str], scope: int) -> None:
        """Note that the name of a loop is given what an object holds."""
        operator = node.child_by_field_name("operator")
        if operator is None or operator.type != _KEYS:
            self._assign(scope, *map(node.child_by_field_name, fields), step=EACH)

    def _call_back(
        self, node: tree_sitter.Node, fields: Sequence[str], around: Sequence[tree_sitter.Node]
    ) -> None:
        """Note that a method gives the function that is all it is given what its object holds."""
        value = object_that_calls(around, self._rules)
        for parameters in map(node.child_by_field_name, fields):
            for name in parameter_names(parameters, self._identifier_kinds):
                self._assign(self._innermost, value, name, step=ONLY)

    def _enter_class(self, node: tree_sitter.Node) -> bytes | None:
        """Note the head of a class and return its name, given the node that is its scope."""
        body, declared = node.child_by_field_name("body"), node
        if body is None and node.parent is not None:
            body, declared = node, node.parent
        name = declared.child_by_field_name("name")
        if name is None or body is None:
            return None
        text = self._source[name.start_byte : name.end_byte]
        self.heads.append(Span(name.end_byte, body.start_byte, text))
        self._classes[text] = len(self._scopes)
        return text

    def _declared_type(self, node: tree_sitter.Node, declaration: Declaration) -> bytes | None:
        if declaration.type == ONLY_PART:
            candidates: list[tree_sitter.Node] = node.named_children
        else:
            candidates = node.children_by_field_name(declaration.type)
        types = (find_type(each, self._source, self._rules) for each in candidates)
        found = next((type_ for type_ in types if type_ is not None), None)
        return array_of(found) if found is not None and declaration.is_array else found

    def _key(self, name: bytes, *, is_function: bool) -> bytes:
        return name + _CALLED if is_function and self._rules.members_are_in_scope else name

    def _class_around(self, scope: int) -> int:
        while scope >= 0 and not self._scopes[scope].is_class:
            scope = self._scopes[scope].parent
        return scope


def _nearest(places: Sequence[_Place] | None, start: int) -> bytes | None:
    """The type of the last declaration before a name, else of the first; without one, None."""
    typed = [place for place in places or () if place[1] is not None]
    before = [name for place, name in typed if place <= start]
    if before:
        return before[-1]
    return typed[0][1] if typed else None
