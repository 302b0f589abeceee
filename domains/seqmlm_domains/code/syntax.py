"""Finds the identifiers of a source text, their roles and declared types, with tree-sitter."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
import tree_sitter

from seqmlm_domains.code.declared_types import DeclaredTypes
from seqmlm_domains.code.expressions import Occurrence
from seqmlm_domains.code.generic_types import simple
from seqmlm_domains.code.imports import ImportedNames
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.languages.language import ANY_FIELD, Inherited, Language, Rule
from seqmlm_domains.code.owners import Owners, find_owners
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.scopes import NO_SURROUNDINGS, Scopes, Surroundings
from seqmlm_domains.code.value_types import value_type

IdentifierArray = npt.NDArray[np.int32]
"""int32 ``[identifiers, 3]``: first character, one past the last, :class:`Role`; in order."""

_MEMBER_SIGNS = frozenset({".", "?.", "::", "optional_chain"})
_PRIVATE_SIGN = b"#"

_PARSED_AT_ONCE = 4096

_FUNCTIONS = frozenset({Role.CALL, Role.FUNCTION})
_GIVEN = frozenset({Role.READ, Role.VARIABLE, Role.KEYWORD})
"""Of names that may be imported without a word that says so, as by ``export { a } from 'b'``."""

_Parent = tuple[Mapping[str, Rule] | None, Role, tree_sitter.Node]
"""The rules for the children of a node, the role that it may pass on, and the node."""

_NEAREST: Final = 2
"""Nodes around one that tell what it declares."""


@dataclass(frozen=True, slots=True, eq=False)
class ParsedText:
    """What the parser tells of a text.

    Args:
        identifiers: in order.
        declared_types: of each of them.
        owners: of each of them; None where nobody asked.
    """

    identifiers: IdentifierArray
    declared_types: DeclaredTypes
    owners: Owners | None = None


def parse_text(text: str, language: str) -> ParsedText:
    """Return every identifier of a text with its role and declared type; some 3 MB/s on one core.

    Broken code is parsed as far as it goes: tree-sitter recovers, and most identifiers away from
    the fault keep their roles. Nesting of any depth is walked without recursion.

    Args:
        text: source code with ``\\n`` line ends, encodable as UTF-8.
        language: a key of :data:`~seqmlm_domains.code.languages.LANGUAGES`.
    """
    source = text.encode()
    tree = _parser(language, threading.get_ident()).parse(source)
    return _read(tree, source, text, LANGUAGES[language])


def parse_text_in_time(text: str, language: str, *, timeout_s: float) -> ParsedText | None:
    """Return what :func:`parse_text` does; None if it took too long to parse.

    Args:
        text: source code, possibly broken.
        language: a key of :data:`~seqmlm_domains.code.languages.LANGUAGES`.
        timeout_s: seconds that the parser may take.
    """
    source = text.encode(errors="replace")
    tree = _parsed_in_time(source, language, timeout_s)
    return None if tree is None else _read(tree, source, text, LANGUAGES[language])


def _read(tree: tree_sitter.Tree, source: bytes, text: str, language: Language) -> ParsedText:
    scopes = Scopes(source, language)
    occurrences = _walk(tree, source, language, scopes)
    types = _types_of(occurrences, scopes)
    owners = find_owners(occurrences, types, tree, source, language, scopes)
    return ParsedText(_identifiers(occurrences, source, text), _simple(types), owners)


def find_identifiers(text: str, language: str) -> IdentifierArray:
    """Return the identifiers of :func:`parse_text` alone."""
    return parse_text(text, language).identifiers


@dataclass(frozen=True, slots=True, eq=False)
class ScopedIdentifiers:
    """Identifiers of a text with their scopes.

    Args:
        identifiers: in order.
        declared_types: of each of them.
        owners: of each of them.
        declared_type: that the identifier asked for is declared with right there.
        value_type: see :func:`~seqmlm_domains.code.value_types.value_type`, of the same one.
        is_text: whether no identifier can stand at that place, as between the tags of an element.
        scopes: int32 ``[identifiers]``, number of the innermost scope of each.
        parents: of each scope, -1 of the whole text.
        is_class: of each scope, whether what it declares are members.
    """

    identifiers: IdentifierArray
    declared_types: DeclaredTypes
    owners: Owners
    declared_type: str | None
    value_type: str | None
    is_text: bool
    scopes: npt.NDArray[np.int32]
    parents: tuple[int, ...]
    is_class: tuple[bool, ...]


def find_scoped_identifiers(
    text: str,
    language: str,
    *,
    place: int,
    timeout_s: float,
    around: Surroundings = NO_SURROUNDINGS,
) -> ScopedIdentifiers | None:
    """Return the identifiers of a text with roles and scopes; None if it took too long to parse.

    Args:
        text: source code, possibly broken.
        place: first character of the identifier whose own types are asked for, and the owners of
            the others if it has one.
        language: a key of :data:`~seqmlm_domains.code.languages.LANGUAGES`.
        timeout_s: seconds that the parser may take; the walk adds some 0.3 ms per kB.
        around: what the text is a part of.
    """
    source = text.encode(errors="replace")
    tree = _parsed_in_time(source, language, timeout_s)
    if tree is None:
        return None
    rules = LANGUAGES[language]
    scopes = Scopes(source, rules, around)
    occurrences = _walk(tree, source, rules, scopes)
    types = _types_of(occurrences, scopes)
    start = len(text[:place].encode(errors="replace"))
    asked = _number_at(start, occurrences)
    node = tree.root_node.descendant_for_byte_range(start, start + 1)

    def type_at(start: int) -> bytes | None:
        number = _number_at(start, occurrences)
        type_ = None if number is None else types[number]
        return None if type_ is None else simple(type_)

    declared = wanted = None
    if node is not None and node.type in rules.identifier_kinds:
        declared = scopes.declared_at(start)
        wanted = value_type(node, source, rules, scopes, type_at)
    return ScopedIdentifiers(
        _identifiers(occurrences, source, text),
        _simple(types),
        find_owners(occurrences, types, tree, source, rules, scopes, asked=asked),
        None if declared is None else simple(declared).decode(),
        None if wanted is None else wanted.decode(),
        _is_text(node, rules),
        np.array([occurrence[4] for occurrence in occurrences], np.int32),
        *scopes.nesting,
    )


def find_imports(text: str, language: str, *, timeout_s: float) -> ImportedNames | None:
    """Return the names that statements import; None if they took too long to parse."""
    source = text.encode(errors="replace")
    tree = _parsed_in_time(source, language, timeout_s)
    if tree is None:
        return None
    scopes = Scopes(source, LANGUAGES[language])
    found = _walk(tree, source, LANGUAGES[language], scopes)
    names = frozenset(source[start:end] for start, end, role, *_ in found if role == Role.IMPORT)
    originals = scopes.imports.originals.items()
    return ImportedNames(names, {name: of for (scope, name), of in originals if of and not scope})


def _number_at(start: int, occurrences: Sequence[Occurrence]) -> int | None:
    """The number of the identifier that begins at a byte."""
    number = bisect_left(occurrences, start, key=lambda occurrence: occurrence[0])
    is_there = number < len(occurrences) and occurrences[number][0] == start
    return number if is_there else None


def _is_text(node: tree_sitter.Node | None, language: Language) -> bool:
    """Whether a node is text for sure: in code that is not complete anything may look like it."""
    around = None if node is None or node.type not in language.text_kinds else node.parent
    return around is not None and not around.has_error


def _types_of(occurrences: Sequence[Occurrence], scopes: Scopes) -> list[bytes | None]:
    """The declared type of each identifier."""
    for start, end, role, _, scope in occurrences:
        if role == Role.PARAMETER:
            scopes.hide(start, end, scope)
    return [
        scopes.type_of(start, end, role, is_function=is_function, scope=scope)
        for start, end, role, is_function, scope in occurrences
    ]


def _simple(types: Sequence[bytes | None]) -> DeclaredTypes:
    """The names of types."""
    return DeclaredTypes.of([None if type_ is None else simple(type_) for type_ in types])


def _identifiers(occurrences: Sequence[Occurrence], source: bytes, text: str) -> IdentifierArray:
    """Characters and roles of the identifiers of a text and its bytes."""
    found = np.array([occurrence[:3] for occurrence in occurrences], np.int32).reshape(-1, 3)
    if len(source) != len(text):
        found[:, :2] = _character_offsets(source)[found[:, :2]]
    return found


def _parsed_in_time(source: bytes, language: str, timeout_s: float) -> tree_sitter.Tree | None:
    parser = _parser(language, threading.get_ident())
    end = time.monotonic() + timeout_s
    try:
        # Only a text that is read in parts lets the parser be stopped.
        return parser.parse(
            lambda start, _: source[start : start + _PARSED_AT_ONCE],
            encoding="utf8",
            progress_callback=lambda _, __: time.monotonic() > end,
        )
    except ValueError:  # it was stopped, and would go on with this text otherwise
        parser.reset()
        return None


@cache
def _parser(language: str, thread: int) -> tree_sitter.Parser:
    """One for each thread: a parser that is at work may not be given another text."""
    return tree_sitter.Parser(tree_sitter.Language(LANGUAGES[language].load_grammar()))


def _walk(
    tree: tree_sitter.Tree, source: bytes, language: Language, scopes: Scopes
) -> list[Occurrence]:
    """Walk the tree in order; note declarations, and return the identifiers."""
    rules, kinds = language.rules, language.identifier_kinds
    types = language.types
    noted = {*types.declarations, *types.values, *types.scopes}
    noted |= {*types.loops, *types.callbacks, *types.imports.kinds}
    cursor = tree.walk()
    above: list[_Parent] = [(None, Role.READ, tree.root_node)]
    previous_leaf = ""
    found: list[Occurrence] = []
    while True:
        node = cursor.node
        assert node is not None, "a cursor always stands on a node"
        kind = node.type
        fields, passed_on, _ = above[-1]
        # Few kinds have rules: for all others the field, which costs as much as the rest, is idle.
        role = Role.READ if fields is None else _child_role(fields, cursor.field_name, passed_on)
        if kind in kinds:
            start, end = node.start_byte, node.end_byte
            start += source.startswith(_PRIVATE_SIGN, start)
            if start < end:  # an identifier that the parser misses has no text
                refined = _refined(role, language.kind_roles.get(kind), previous_leaf)
                if refined in _GIVEN and scopes.imports.is_imported(start):
                    refined = Role.IMPORT
                found.append((start, end, refined, role in _FUNCTIONS, scopes.at(start)))
        elif kind in noted:
            scopes.visit(node, kind, [around for _, _, around in above[-_NEAREST:]])
        if cursor.goto_first_child():
            above.append((rules.get(kind), role, node))
            continue
        previous_leaf = kind
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return found
            above.pop()


def _child_role(fields: Mapping[str, Rule], field: str | None, passed_on: Role) -> Role:
    rule = fields.get(field or ANY_FIELD, fields.get(ANY_FIELD, Role.READ))
    if isinstance(rule, Inherited):
        return rule.otherwise if passed_on == Role.READ else passed_on
    return rule


def _refined(role: Role, kind_role: Role | None, previous_leaf: str) -> Role:
    """A role with what the kind of the identifier and a dot before it say."""
    if kind_role is not None and role != Role.CLASS:
        return kind_role
    if role in (Role.READ, Role.CALL) and previous_leaf in _MEMBER_SIGNS:
        return Role.ATTRIBUTE
    return role


def _character_offsets(source: bytes) -> npt.NDArray[np.int32]:
    """For every byte, and the end, the number of characters that begin before it."""
    begins = (np.frombuffer(source, np.uint8) & 0xC0) != 0x80
    return np.concatenate([[0], np.cumsum(begins)]).astype(np.int32)
