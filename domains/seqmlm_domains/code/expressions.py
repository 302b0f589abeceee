"""Of which class the objects are that expressions give, told within one file.

That is the declared type of a name, that of the object made for it, as by ``x = Class()``, that of
the value that it is given, or of the result of the call; then that of a member of it, or of one of
the things that it holds, and so on. What can be told by knowing all classes alone is left open, see
:mod:`~seqmlm_domains.code.member_paths`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Final

import tree_sitter

from seqmlm_domains.code.assigned_values import AssignedValue, given_values
from seqmlm_domains.code.generic_types import AWAITED, ITEM, simple
from seqmlm_domains.code.languages.language import LAST_PART, ONLY_PART, Language
from seqmlm_domains.code.member_paths import (
    ITSELF,
    MODULES,
    OWN_MODULE,
    RESULT_OF,
    is_open,
    member_of,
    taken_of,
    told_by_name,
)
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.scopes import Scopes
from seqmlm_domains.code.type_names import find_type, last_name, made_type

Occurrence = tuple[int, int, Role, bool, int]
"""First byte, end byte, role, whether it is a function, and the number of its scope."""

_DOTS: Final = b".:"
_BETWEEN: Final = b" \t\n?!"
"""What may stand between an object and the dot."""

_LAST_SIGNS: Final = b")]}\"'`"
"""Of an expression that does not end in a name."""

_MEMBERS: Final = frozenset({Role.VARIABLE, Role.FUNCTION})
_DEEPEST: Final = 60
"""Names in a row whose types are found by way of the next one, each further down in the text."""

_MOST_BASES: Final = 32


_Types = tuple[bytes | None, bytes | None]
"""Of a name, and of the result of a call of it; None where nothing is known."""

_UNKNOWN: Final[_Types] = (None, None)


class ExpressionTypes:
    """The types of the names and expressions of a text.

    Args:
        occurrences: its identifiers in order.
        types: declared type of each, or that of its result.
        bases: of each class of the text.
        tree: of the source.
        source: text of the file in UTF-8.
        language: gives the rules.
        scopes: with every node visited.
    """

    def __init__(
        self,
        occurrences: Sequence[Occurrence],
        types: Sequence[bytes | None],
        bases: Mapping[bytes, Sequence[bytes]],
        tree: tree_sitter.Tree,
        source: bytes,
        language: Language,
        scopes: Scopes,
    ) -> None:
        self._occurrences, self._types, self._bases = occurrences, types, bases
        self._root, self._source, self._scopes = tree.root_node, source, scopes
        self._rules, self._identifier_kinds = language.types, language.identifier_kinds
        self._expressions = language.types.telling | language.types.wrappers
        self._numbers = {found[0]: number for number, found in enumerate(occurrences)}
        self._found: dict[int, _Types] = {}
        self._owners: dict[int, bytes | None] = {}
        self._depth = 0

    def owner_of(self, number: int) -> bytes | None:
        """Return the type in which an identifier is looked up, or whose body declares it.

        None if none is known.
        """
        start, end, role, _, scope = self._occurrences[number]
        receiver = self._receiver_end(start)
        if receiver is None:
            return self._declaring(role, start, end, scope)
        if number not in self._owners:
            self._owners[number] = self._before(receiver, number, scope)
        return self._owners[number]

    def of_value(self, assigned: AssignedValue | None) -> bytes | None:
        """Return the type that a name has by being given a value."""
        if assigned is None:
            return None
        found = self._of_expression(assigned.value, assigned.scope)
        return taken_of(found, assigned.step) if assigned.step else found

    def _of_name(self, number: int) -> _Types:
        """The types of an identifier."""
        found = self._found.get(number)
        if found is None and self._depth < _DEEPEST:
            self._found[number] = _UNKNOWN  # for what depends on itself
            self._depth += 1
            found = self._found[number] = self._find(number)
            self._depth -= 1
        return found or _UNKNOWN

    def _find(self, number: int) -> _Types:
        start, end, role, _, scope = self._occurrences[number]
        if role in _MEMBERS:
            return _UNKNOWN
        declared = self._types[number]
        if role == Role.TYPE and self._source.startswith(b".", end):
            # In Java, `value.` before a name or a brace looks like a type.
            declared = self._scopes.type_of(start, end, Role.READ, is_function=False, scope=scope)
        if declared is not None:
            meant = self._original_type(declared, scope)
            return meant, meant
        name = self._source[start:end]
        if self._receiver_end(start) is None:
            return self._of_plain(name, start, scope)
        owner = self.owner_of(number)
        return self._open(name) if owner is None else self._of_member(owner, name, start)

    def _of_plain(self, name: bytes, start: int, scope: int) -> _Types:
        """Type and result of a name without an object."""
        own = self._scopes.class_around(scope)
        if name == self._rules.own_object.encode() and own is not None:
            return own, None
        value = told_by_name(self.of_value(self._scopes.assigned_to(name, start, scope)), name)
        if self._scopes.has_class(name):
            return value or name, name
        original = self._scopes.original(name, scope)
        if original is not None:
            own_value, own_result = self._open(original.name, original.owner)
            return value or own_value, own_result
        is_member = self._rules.members_are_in_scope and not self._scopes.is_declared(name, scope)
        own_value, own_result = self._open(name, own if is_member else None)
        return value or own_value, own_result

    def _of_member(self, owner: bytes, name: bytes, start: int) -> _Types:
        """Type and result of a member."""
        classes = [simple(owner)]
        for each in classes:  # grows
            value = self._scopes.member_type(each, name, is_function=False)
            result = self._scopes.member_type(each, name, is_function=True)
            value = value or self.of_value(self._scopes.member_value(each, name, start))
            if value is not None or result is not None:
                own_value, own_result = self._open(name, owner)
                return value or own_value, result or own_result
            if len(classes) < _MOST_BASES:
                classes += (base for base in self._bases.get(each, ()) if base not in classes)
        if self._scopes.has_class(name):
            return name, name
        return self._open(name, owner)

    def _open(self, name: bytes, owner: bytes | None = None) -> tuple[bytes, bytes]:
        """What stands for the type and the result of a name where these are not known."""
        return member_of(owner, name), member_of(owner, name + RESULT_OF)

    def _of_expression(self, node: tree_sitter.Node, scope: int) -> bytes | None:
        """The type of what an expression gives."""
        steps: list[bytes] = []
        rules = self._rules
        inner: tree_sitter.Node | None = node
        while inner is not None:
            kind = inner.type
            if kind in rules.indexed:
                steps.append(ITEM)
                inner = inner.child_by_field_name(rules.indexed[kind])
            elif kind in rules.awaiting or (kind in rules.passed_through and not self._cast(inner)):
                steps += [AWAITED] * (kind in rules.awaiting)
                inner = inner.named_children[0] if inner.named_children else None
            else:
                break
        found = None if inner is None else self._of_plain_expression(inner, scope)
        found = None if found is None else self._original_type(found, scope)
        for step in reversed(steps):
            found = taken_of(found, step)
        return found

    def _of_plain_expression(self, node: tree_sitter.Node, scope: int) -> bytes | None:
        """The type of what an expression gives that is no part of what another one does."""
        kind, rules = node.type, self._rules
        if (cast := self._cast(node)) is not None:
            return find_type(cast, self._source, rules)
        if kind in rules.calls and (module := self._scopes.imports.loaded(node)) is not None:
            return ITSELF + module
        if kind in rules.choices:
            return self._of_choice(node, scope)
        if kind in rules.constructions:
            return made_type(node, self._source, rules, self._identifier_kinds)
        if kind in rules.literals:
            return rules.literals[kind]
        if kind == rules.own_object:
            return self._scopes.class_around(scope)
        if kind in rules.wholes or kind in self._identifier_kinds:
            return self._of_named(node, scope)
        return None

    def _of_choice(self, node: tree_sitter.Node, scope: int) -> bytes | None:
        """The type of an expression that gives one of several values: what is known of them all."""
        if self._depth >= _DEEPEST:
            return None
        self._depth += 1
        types = {self._of_expression(value, scope) for value in given_values(node, self._rules)}
        self._depth -= 1
        told = {type_ for type_ in types if type_ is not None}
        known = {type_ for type_ in told if not is_open(type_)} or told
        return known.pop() if len(known) == 1 else None

    def _original_type(self, type_: bytes, scope: int) -> bytes:
        """A type, by the name that it has where it is not imported by another one."""
        name = simple(type_)
        original = self._scopes.original(name, scope)
        is_type = original is not None and original.owner is None
        return original.name + type_[len(name) :] if original and is_type else type_

    def _cast(self, node: tree_sitter.Node) -> tree_sitter.Node | None:
        """The type that an expression is said to have."""
        field = self._rules.casts.get(node.type)
        if field is None or field not in (LAST_PART, ONLY_PART):
            return None if field is None else node.child_by_field_name(field)
        parts = node.named_children
        return parts[-1 if field == LAST_PART else 0] if len(parts) > 1 else None

    def _of_named(self, node: tree_sitter.Node, scope: int) -> bytes | None:
        """The type of a name, of a member, or of what a call of either gives."""
        is_call = node.type in self._rules.calls
        called = last_name(node, self._rules, self._identifier_kinds)
        if called is None:
            return None
        if is_call:
            function = node.child_by_field_name(self._rules.wholes[node.type])
            if function is None or function.type in self._rules.calls:
                return None
            own = self._scopes.own_class(called.end_byte, scope)  # as of `super().name`
            if own is not None:
                return own
        number = self._numbers.get(self._scopes.name_start(called))
        if number is None:
            return None
        value, result = self._of_name(number)
        return result if is_call else value

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

    def _before(self, end: int, number: int, scope: int) -> bytes | None:
        """The type of the object whose code ends at a byte, before an identifier."""
        own = self._scopes.own_class(end, scope)
        if own is not None:
            return own
        if number and self._occurrences[number - 1][1] == end:
            return self._of_name(number - 1)[0]
        if not end or self._source[end - 1] not in _LAST_SIGNS:
            return None
        node = self._root.descendant_for_byte_range(end - 1, end)
        found = None
        while node is not None and node.end_byte == end:
            found = node if node.type in self._expressions else found
            node = node.parent
        return None if found is None else self._of_expression(found, scope)

    def _declaring(self, role: Role, start: int, end: int, scope: int) -> bytes | None:
        """The class whose body or module that declares a name, or that it is imported from."""
        if role == Role.IMPORT:
            return self._imported_from(start)
        if role in _MEMBERS:
            # The name of a function stands in the scope of the function.
            own = self._scopes.class_of(scope)
            if own is None and role == Role.FUNCTION:
                own = self._scopes.class_of(self._scopes.parent(scope))
            if own is not None:
                return own
        elif role != Role.CLASS:
            return None
        # That of a function or class may stand in its own scope; one in a function's is a type
        # parameter.
        is_own = role == Role.FUNCTION or self._scopes.class_of(scope) == self._source[start:end]
        is_outermost = scope == 0 or (is_own and self._scopes.parent(scope) == 0)
        return OWN_MODULE if is_outermost else None

    def _imported_from(self, start: int) -> bytes | None:
        """The module that a name is imported from; of one that it is given there none is known."""
        if start in self._scopes.imports.renamed:
            return None
        imports = self._scopes.imports.spans
        place = bisect_right(imports, start, key=lambda span: span.start) - 1
        is_within = place >= 0 and start < imports[place].end
        return ITSELF + imports[place].owner if is_within else MODULES
