"""In which class or module a member is looked up: what stands before its dot, by its type.

That type is the declared one; that of the object made for it, as by ``x = Class()``; that of the
name it is given, or of the result of the call; or the class around, of the method's own object.
Within one file: what can be told by knowing all classes alone is left to the reader of the result,
``name()`` for the result of what is called so and ``typeof name`` for what is called so itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import tree_sitter

from seqmlm_domains.code.declared_types import AssignedValue, DeclaredTypes, Scopes, Span
from seqmlm_domains.code.languages.language import Language
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.type_names import last_name

RESULT_OF: Final = b"()"
ITSELF: Final = b"typeof "

Occurrence = tuple[int, int, Role, bool, int]
"""First byte, end byte, role, whether it is a function, and the number of its scope."""

_DOTS: Final = b".:"
_BETWEEN: Final = b" \t\n?!"
"""What may stand between an object and the dot."""

_BASES: Final = frozenset({Role.READ, Role.TYPE, Role.ATTRIBUTE})
_MEMBERS: Final = frozenset({Role.VARIABLE, Role.FUNCTION})


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """What identifiers belong to.

    Args:
        members: the class or module that declares each identifier, or in which it is looked up.
        heirs: the class in whose head each stands as a base.
    """

    members: DeclaredTypes
    heirs: DeclaredTypes


def find_owners(
    occurrences: Sequence[Occurrence],
    types: Sequence[bytes | None],
    tree: tree_sitter.Tree,
    source: bytes,
    language: Language,
    scopes: Scopes,
) -> Owners:
    """Return the owners of the identifiers of a text.

    Args:
        occurrences: in order.
        types: declared type of each, or that of its result.
        tree: of the source.
        source: text of the file in UTF-8.
        language: gives the rules.
        scopes: with every node visited.
    """
    search = _Search(tree, source, language, scopes)
    for occurrence, type_name in zip(occurrences, types, strict=True):
        search.add(occurrence, type_name)
    heirs = _within(occurrences, scopes.heads)
    return Owners(DeclaredTypes.of(search.members), DeclaredTypes.of(heirs))


class _Search:
    """Goes through the identifiers of a text in order: what is before the dot is known by then."""

    def __init__(
        self, tree: tree_sitter.Tree, source: bytes, language: Language, scopes: Scopes
    ) -> None:
        self._root, self._source, self._scopes = tree.root_node, source, scopes
        self._rules, self._identifier_kinds = language.types, language.identifier_kinds
        self._values: dict[int, bytes] = {}
        self._results: dict[int, bytes] = {}
        self._imports = iter(scopes.imports)
        self._import = next(self._imports, None)
        self._previous = (0, 0)
        self.members: list[bytes | None] = []

    def add(self, occurrence: Occurrence, declared: bytes | None) -> None:
        """Find the owner of an identifier, and what its own members are looked up in."""
        start, end, role, _, scope = occurrence
        name = self._source[start:end]
        receiver = self._receiver_end(start)
        if receiver is None:
            owner = self._declaring(role, start, scope)
        else:
            owner = self._type_before(receiver, scope)
        self.members.append(owner)
        self._previous = start, end
        if role in _MEMBERS:
            return
        if role == Role.TYPE and self._source.startswith(b".", end):
            # In Java, `value.` before a name or a brace looks like a type.
            declared = self._scopes.type_of(start, end, Role.READ, is_function=False, scope=scope)
        value = result = declared
        if declared is None:
            if receiver is None:
                assigned = self._scopes.assigned_to(name, start, scope)
            elif owner is None:
                assigned = None
            else:
                value = self._scopes.member_type(owner, name, is_function=False)
                result = self._scopes.member_type(owner, name, is_function=True)
                assigned = self._scopes.member_value(owner, name, start)
            value = value or self._assigned(assigned)
        is_class = self._scopes.has_class(name)
        self._values[start] = value or (name if is_class else ITSELF + name)
        self._results[start] = result or (name if is_class else name + RESULT_OF)

    def _assigned(self, value: AssignedValue | None) -> bytes | None:
        if value is None or value.made is not None:
            return None if value is None else value.made
        return (self._results if value.is_result else self._values).get(value.like)

    def _receiver_end(self, start: int) -> int | None:
        """Where what stands before the dot of an identifier ends; None without a dot."""
        source = self._source
        start -= source.startswith(b"#", start - 1) if start else 0
        if not start or source[start - 1] not in _DOTS:
            return None
        if source[start - 1] == _DOTS[1] and not source.endswith(b"::", 0, start):
            return None
        end = start - (1 if source[start - 1] == _DOTS[0] else 2)
        while end and source[end - 1] in _BETWEEN:
            end -= 1
        return end

    def _type_before(self, end: int, scope: int) -> bytes | None:
        """The type of the object whose code ends at a byte."""
        own = self._scopes.own_class(end, scope)
        if own is not None:
            return own
        start, previous_end = self._previous
        if previous_end == end:
            return self._values.get(start)
        if not self._source.endswith(b")", 0, end):
            return None
        node = self._root.descendant_for_byte_range(end - 1, end)
        around = None if node is None or node.parent is None else node.parent.parent
        if around is None or around.end_byte != end:
            return None
        return self._type_of_call(around, scope)

    def _type_of_call(self, node: tree_sitter.Node, scope: int) -> bytes | None:
        if (field := self._rules.constructions.get(node.type)) is not None:
            return self._scopes.simple_name(node.child_by_field_name(field))
        if node.type not in self._rules.calls:
            return None
        called = last_name(node, self._rules, self._identifier_kinds)
        if called is None:
            return None
        own = self._scopes.own_class(called.end_byte, scope)  # as of `super().name`
        return own or self._results.get(self._scopes.name_start(called))

    def _declaring(self, role: Role, start: int, scope: int) -> bytes | None:
        """The class whose body declares a name, or the module that it is imported from."""
        if role in _MEMBERS:
            # The name of a function stands in the scope of the function.
            own = self._scopes.class_of(scope)
            if own is None and role == Role.FUNCTION:
                own = self._scopes.class_of(self._scopes.parent(scope))
            return own
        if role != Role.IMPORT:
            return None
        while self._import is not None and self._import.end <= start:
            self._import = next(self._imports, None)
        if self._import is None or start < self._import.start:
            return None
        return ITSELF + self._import.owner


def _within(occurrences: Sequence[Occurrence], heads: Sequence[Span]) -> list[bytes | None]:
    """Of each identifier the class of whose head it is a part, as a base."""
    found: list[bytes | None] = [None] * len(occurrences)
    starts = [occurrence[0] for occurrence in occurrences]
    for head in heads:
        place = bisect_left(starts, head.start)
        while place < len(starts) and starts[place] < head.end:
            if occurrences[place][2] in _BASES:
                found[place] = head.owner
            place += 1
    return found
