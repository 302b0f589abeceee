"""Which type the source declares for an identifier: found in the tree, resolved by scope.

Within one file and by name alone: a use of a variable has the type of the declaration that it
meets first on the way out of its scopes. Members of other objects are not resolved.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import tree_sitter

from seqmlm_domains.code.languages.language import ONLY_PART, Declaration, Language
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.type_names import NAME, declared_name, last_name, type_name

NO_TYPE: Final = -1

_CALLED: Final = b"("  # behind the names of functions, where a field may have the same one
_WORD_END = re.compile(rb"[\w$]", re.ASCII)
_PRIVATE_SIGN: Final = b"#"
_RESOLVED: Final = frozenset(
    {Role.READ, Role.ATTRIBUTE, Role.CALL, Role.VARIABLE, Role.PARAMETER, Role.FUNCTION}
)

_Place = tuple[int, bytes | None]
"""First byte of a declared name, and its type; None where none can be told."""

SUPER: Final = b"super"


@dataclass(frozen=True, slots=True)
class AssignedValue:
    """What a name is given where it is assigned.

    Args:
        start: first byte of the name.
        made: the class of the object that is made for it; None if none is.
        like: first byte of the name whose type the value has, or whose result it is; -1 if none.
        is_result: whether it is a result.
    """

    start: int
    made: bytes | None
    like: int = -1
    is_result: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes whose names belong to a class or module.

    Args:
        start: first byte.
        end: one past the last.
        owner: name of the class or module.
    """

    start: int
    end: int
    owner: bytes


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

    def name_at(self, place: int) -> str | None:
        """Return the type of an identifier; None where none is declared."""
        number = int(self.numbers[place])
        return None if number == NO_TYPE else self.names[number]

    def where_any(self, names: Collection[str]) -> npt.NDArray[np.bool_]:
        """Say which identifiers are of one of some types, bool ``[identifiers]``."""
        return np.isin(self.numbers, [n for n, name in enumerate(self.names) if name in names])

    def where(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> DeclaredTypes:
        """Return the types of some of the identifiers, chosen as numpy indexes arrays."""
        return DeclaredTypes(self.numbers[chosen], self.names)

    def part(self, start: int, end: int) -> DeclaredTypes:
        """Return the types of a range of the identifiers."""
        return DeclaredTypes(self.numbers[start:end], self.names)


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
    """

    def __init__(self, source: bytes, language: Language) -> None:
        self._source, self._rules = source, language.types
        self._identifier_kinds = language.identifier_kinds
        self._scopes = [_Scope(-1, len(source) + 1, False, None, {}, {})]
        self._innermost = 0
        self._typed_names: set[bytes] = set()
        self._declared_at: dict[int, bytes] = {}
        self._classes: dict[bytes, int] = {}
        self.heads: list[Span] = []
        self.imports: list[Span] = []

    def visit(self, node: tree_sitter.Node, kind: str) -> None:
        """Note what a node declares, and open its scope; in the order of the source."""
        outer = self.at(node.start_byte)
        if (declaration := self._rules.declarations.get(kind)) is not None:
            self._declare(node, declaration, outer)
        if (fields := self._rules.values.get(kind)) is not None:
            self._assign(node, fields, outer)
        if (module := self._rules.imports.get(kind)) is not None:
            self._import(node, module)
        if kind in self._rules.scopes:
            self._innermost = len(self._scopes)
            is_class = kind in self._rules.class_scopes
            name = self._enter_class(node) if is_class else None
            self._scopes.append(_Scope(outer, node.end_byte, is_class, name, {}, {}))

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
                    return _last(known.values[name], start)
                if name in known.places:
                    return None
            scope = known.parent
        return None

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
        return None if values is None else _last(values, start)

    def has_class(self, name: bytes) -> bool:
        """Say whether the file defines a class with members by that name."""
        return name in self._classes

    def class_of(self, scope: int) -> bytes | None:
        """Return the name of the class whose body a scope is; None if it is of none."""
        return self._scopes[scope].class_name if scope >= 0 else None

    def class_around(self, scope: int) -> bytes | None:
        """Return the name of the innermost class around a scope; None if it has none."""
        return self.class_of(self._class_around(scope))

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

    def _assign(self, node: tree_sitter.Node, fields: tuple[str, str], scope: int) -> None:
        """Note what a name is given, if that tells its type."""
        value, target = map(node.child_by_field_name, fields)
        name, own = self._holder_of(target, scope)
        if value is None or name is None:
            return
        rules = self._rules
        while value.type in rules.wrappers and value.named_children:
            value = value.named_children[0]
        start = self.name_start(name)
        found = None
        if (field := rules.constructions.get(value.type)) is not None:
            made = self.simple_name(value.child_by_field_name(field))
            found = None if made is None else AssignedValue(start, made)
        elif (named := last_name(value, rules, self._identifier_kinds)) is not None:
            is_result = value.type in rules.calls
            found = AssignedValue(start, None, self.name_start(named), is_result)
        if found is not None:
            key = self._source[start : name.end_byte]
            self._scopes[own].values.setdefault(key, []).append(found)

    def simple_name(self, node: tree_sitter.Node | None) -> bytes | None:
        """Return the last word of the name of a class, generics aside."""
        if node is None:
            return None
        name = type_name(node, self._source, self._rules)
        if name is None:
            found = last_name(node, self._rules, self._identifier_kinds)
            name = None if found is None else self._source[found.start_byte : found.end_byte]
        return name

    def _import(self, node: tree_sitter.Node, field: str) -> None:
        module = node.child_by_field_name(field)
        if module is not None:
            words = NAME.findall(self._source, module.start_byte, module.end_byte)
            if words:
                self.imports.append(Span(module.end_byte, node.end_byte, words[-1]))

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
        names = (type_name(each, self._source, self._rules) for each in candidates)
        found = next((name for name in names if name is not None), None)
        return None if found is None else found + declaration.suffix

    def _key(self, name: bytes, *, is_function: bool) -> bytes:
        return name + _CALLED if is_function and self._rules.members_are_in_scope else name

    def _class_around(self, scope: int) -> int:
        while scope >= 0 and not self._scopes[scope].is_class:
            scope = self._scopes[scope].parent
        return scope


def _last(values: Sequence[AssignedValue], start: int) -> AssignedValue:
    """The last one before a byte, else the first."""
    before = [value for value in values if value.start < start]
    return before[-1] if before else values[0]


def _nearest(places: Sequence[_Place] | None, start: int) -> bytes | None:
    """The type of the last declaration before a name, else of the first; without one, None."""
    typed = [place for place in places or () if place[1] is not None]
    before = [name for place, name in typed if place <= start]
    if before:
        return before[-1]
    return typed[0][1] if typed else None
