"""What the syntax says at a cursor: the role of the name there, and the names in scope.

The code is incomplete where it is being typed: a name stands in at the cursor, and what is open
before it is closed if nothing follows. Of long files a window is parsed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm_domains.code.completion.class_around import class_around
from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.completion.imports_above import imports_above
from seqmlm_domains.code.declared_types import NO_TYPE, DeclaredTypes
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.languages.lexicon import Kind
from seqmlm_domains.code.member_paths import MODULES
from seqmlm_domains.code.owners import Owners
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.scopes import NO_SURROUNDINGS, Surroundings
from seqmlm_domains.code.source_tokens import SourceTokens
from seqmlm_domains.code.syntax import ScopedIdentifiers, find_scoped_identifiers

PARSE_TIMEOUT_S: Final = 0.03

_CHARACTERS_BEFORE: Final = 8_000
_CHARACTERS_BEHIND: Final = 4_000
_CHARACTERS_LEFT_OUT: Final = 2_000
"""Most of those before that are left out for the window to begin at a line without indentation."""

_STAND_IN: Final = "MaskAtCursor"
"""Where it stands in a type, that type is not known yet."""

_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}
BINDING_ROLES: Final = (Role.VARIABLE, Role.PARAMETER, Role.FUNCTION, Role.CLASS, Role.IMPORT)
"""Of names that begin to mean something where they stand."""

_DEFINES: Final = (Role.VARIABLE, Role.FUNCTION, Role.CLASS)
_VALUES: Final = (Role.VARIABLE, Role.PARAMETER)
_VALUE_END: Final = re.compile(r"[ \t]*[;,)(]")
MEMBER_SIGNS: Final = (".", "?.", "::")


@dataclass(frozen=True, eq=False)
class CursorSyntax:
    """What the parser tells at a cursor.

    Args:
        role: of the name that stands there; None if the parser took too long or sees no name.
        bound: int32 ``[n]``, words of the text that are bound before the cursor in a scope around
            it, each once.
        bound_roles: int32 ``[n]``, what the last of those bindings makes each of them.
        bound_types: that it declares for each.
        words: int32 ``[m]``, words around the cursor that are names.
        roles: int32 ``[m]``, what each of them does.
        declares_member: bool ``[m]``, whether it declares a member of a class.
        members_are_in_scope: whether the language needs no object before a member.
        types: declared types of ``words``.
        declared: int32 ``[k]``, those of ``words`` that are declared with the type at the cursor.
        owner: in which class or module the name there is looked up, see
            :mod:`~seqmlm_domains.code.owners`; None where it is in none or that is not known.
        open_owner: the same, as far as this part of the text alone tells.
        owners: of ``words``, and in whose heads they stand.
        imported_above: names that the text imports before this part of it.
        is_text: whether no name can stand there, such as between the tags of an element.
        due_type: simple name of the type that the source gives the name there: that it is declared
            with, or that of what it is the whole value of, which what follows has to tell; None
            where that is not known.
    """

    role: Role | None
    bound: npt.NDArray[np.int32]
    bound_roles: npt.NDArray[np.int32]
    bound_types: DeclaredTypes
    words: npt.NDArray[np.int32]
    roles: npt.NDArray[np.int32]
    declares_member: npt.NDArray[np.bool_]
    members_are_in_scope: bool
    types: DeclaredTypes
    declared: npt.NDArray[np.int32]
    due_type: str | None
    owner: str | None
    open_owner: str | None
    owners: Owners
    imported_above: frozenset[bytes] = frozenset()
    is_text: bool = False

    @classmethod
    def at(cls, cursor: Cursor) -> CursorSyntax:
        """Parse what is around a cursor; some 4 ms, whatever the size of the file."""
        tokens = cursor.tokens
        if not len(tokens.numbers):
            return _NOTHING
        text = _TextAround.of(cursor)
        around = _surroundings(cursor, text.start) if text.start else NO_SURROUNDINGS
        found = find_scoped_identifiers(
            text.before + _STAND_IN + text.behind,
            tokens.language,
            place=len(text.before),
            timeout_s=PARSE_TIMEOUT_S,
            around=around,
        )
        if found is None:
            return _NOTHING
        starts = found.identifiers[:, 0]
        here = np.flatnonzero(starts == len(text.before))
        if not len(here):
            return replace(_NOTHING, is_text=found.is_text)
        place = int(here[0])
        # Where the identifiers are in the text, and which of its words they are.
        offsets = starts + text.start
        offsets[place + 1 :] += text.end_of_name - cursor.start - len(_STAND_IN)
        pieces = np.minimum(tokens.ends.searchsorted(offsets, "right"), len(tokens.ends) - 1)
        words = tokens.numbers[pieces]
        is_name = tokens.word_kinds[words] == Kind.NAME
        is_name[place] = False
        types, is_declared = _without_stand_in(found.declared_types)
        members = LANGUAGES[tokens.language].types.members_are_in_scope
        is_bound = _is_bound(found, place, members_are_in_scope=members) & is_name
        bindings = _last_bindings(words, found.identifiers[:, 2], is_bound)
        # What is being typed may go on behind the name, unless the code there ends the value.
        is_whole = not text.is_closed and _VALUE_END.match(text.behind) is not None
        role = Role(int(found.identifiers[place, 2]))
        if role in (Role.READ, Role.TYPE) and len(cursor.left):
            role = LANGUAGES[tokens.language].announced.get(tokens.words[cursor.left[-1]], role)
        owner = None if role in _DEFINES else found.owners.members.name_at(place)
        if owner is None and role == Role.IMPORT:
            owner = MODULES.decode()
        is_value = is_bound & np.isin(found.identifiers[:, 2], _VALUES)
        if role == Role.TYPE and receiver_at(cursor) in words[is_value]:
            role = Role.ATTRIBUTE  # in Java, `value.` before a name or a brace looks like a type
        return cls(
            role,
            words[bindings],
            found.identifiers[bindings, 2],
            types.where(bindings),
            words[is_name],
            found.identifiers[is_name, 2],
            _declares_member(found)[is_name],
            members,
            types.where(is_name),
            words[is_name & is_declared],
            found.declared_type or (found.value_type if is_whole else None),
            owner,
            owner,
            found.owners.where(is_name),
            around.imports.names,
        )


@dataclass(frozen=True, slots=True)
class _TextAround:
    """The code before and behind a name, from ``start`` on and from ``end_of_name``.

    Where nothing follows, that behind closes the brackets that are open.
    """

    before: str
    behind: str
    start: int
    end_of_name: int
    is_closed: bool

    @classmethod
    def of(cls, cursor: Cursor) -> _TextAround:
        tokens = cursor.tokens
        first, last = _window(cursor)
        start = tokens.span(first)[0]
        before = tokens.text[start : cursor.start]
        if last <= cursor.next_piece:
            return cls(before, _closing(tokens, first, cursor.piece), start, cursor.start, True)
        end_of_name = tokens.span(cursor.next_piece - 1)[1] if cursor.next_piece else 0
        behind = tokens.text[end_of_name : tokens.span(last - 1)[1]]
        return cls(before, behind, start, end_of_name, False)


def _surroundings(cursor: Cursor, start: int) -> Surroundings:
    """What the part of a text around a cursor is a part of, given where it starts."""
    text, language = cursor.tokens.text, cursor.tokens.language
    class_name = class_around(text, cursor.start)
    return Surroundings(
        None if class_name is None else class_name.encode(errors="replace"),
        imports_above(text, start, language, timeout_s=PARSE_TIMEOUT_S),
    )


def owner_names(syntax: CursorSyntax) -> set[str]:
    """Return what the owner of the name at a cursor is called in the text around it."""
    return {owner for owner in (syntax.owner, syntax.open_owner) if owner is not None}


def receiver_at(cursor: Cursor) -> int | None:
    """Return the word before the dot that the cursor is behind; None behind no dot."""
    words, left = cursor.tokens.words, cursor.left
    is_member = len(left) > 1 and words[left[-1]] in MEMBER_SIGNS
    return int(left[-2]) if is_member else None


_NONE: Final = np.zeros(0, np.int32)
_NO_TYPES: Final = DeclaredTypes(_NONE, ())
_NOTHING: Final = CursorSyntax(
    role=None,
    bound=_NONE,
    bound_roles=_NONE,
    bound_types=_NO_TYPES,
    words=_NONE,
    roles=_NONE,
    declares_member=np.zeros(0, np.bool_),
    members_are_in_scope=False,
    types=_NO_TYPES,
    declared=_NONE,
    due_type=None,
    owner=None,
    open_owner=None,
    owners=Owners(_NO_TYPES, _NO_TYPES, {}, np.zeros(0, np.bool_), ()),
)


def _without_stand_in(types: DeclaredTypes) -> tuple[DeclaredTypes, npt.NDArray[np.bool_]]:
    """Types without what stands in for one, and which identifiers it was the type of."""
    is_declared = types.where_any([name for name in types.names if _STAND_IN in name])
    return DeclaredTypes(np.where(is_declared, NO_TYPE, types.numbers), types.names), is_declared


def _window(cursor: Cursor) -> tuple[int, int]:
    """The pieces to parse: from a line on, one without indentation if one is near."""
    tokens = cursor.tokens
    start = cursor.start - _CHARACTERS_BEFORE
    first = int(tokens.ends.searchsorted(start, "right"))
    if first:
        near = int(tokens.ends.searchsorted(start + _CHARACTERS_LEFT_OUT, "right"))
        kinds = tokens.word_kinds[tokens.numbers[first:near]]
        spaces = (first + np.flatnonzero(kinds == Kind.SPACE)).tolist()
        ends = (piece for piece in spaces if tokens.text[tokens.span(piece)[1] - 1] == "\n")
        lines = (piece for piece in spaces if "\n" in tokens.text[slice(*tokens.span(piece))])
        line = next(ends, None)
        # The indentation of a first line belongs to the window.
        first = line + 1 if line is not None else next(lines, first)
    last = int(tokens.ends.searchsorted(cursor.start + _CHARACTERS_BEHIND, "right"))
    return first, max(last, cursor.next_piece)


def _closing(tokens: SourceTokens, first: int, last: int) -> str:
    """What closes the brackets that are open at the end of some pieces."""
    open_signs: list[str] = []
    for number in tokens.code(first, last).tolist():
        word = tokens.words[number]
        if word in _CLOSING:
            open_signs.append(_CLOSING[word])
        elif open_signs and word == open_signs[-1]:
            open_signs.pop()
    return "".join(reversed(open_signs))


def _is_bound(
    found: ScopedIdentifiers, place: int, *, members_are_in_scope: bool
) -> npt.NDArray[np.bool_]:
    """Whether each identifier is bound before a place in a scope around it."""
    roles = found.identifiers[:, 2]
    parents = np.array(found.parents, np.int32)
    innermost = scope = int(found.scopes[place])
    is_around = np.zeros(len(parents), np.bool_)
    while scope >= 0:
        is_around[scope] = scope == innermost or members_are_in_scope or not found.is_class[scope]
        scope = found.parents[scope]
    holds_in = found.scopes
    is_bound = is_around[holds_in]
    # A function's name stands in the function's own scope and is bound around it, that of a method
    # as a member. So may a class's name; one that stands in a function's scope is a type parameter.
    is_function = roles == Role.FUNCTION
    holds_a_function = np.zeros(len(parents), np.bool_)
    holds_a_function[holds_in[is_function]] = True
    outside = is_function | (roles == Role.CLASS) & ~holds_a_function[holds_in]
    outside &= parents[holds_in] >= 0
    is_bound |= outside & is_around[parents[holds_in]]
    is_method = is_function & np.append(found.is_class, False)[parents[holds_in]]
    is_bound &= ~is_method | is_around[parents[holds_in]]
    is_bound &= np.isin(roles, BINDING_ROLES)
    is_bound[place:] = False
    return is_bound


def _last_bindings(
    words: npt.NDArray[np.int32], roles: npt.NDArray[np.int32], is_bound: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """The last binding of each word, ``[n]`` places in the order of the words.

    Of a variable and a function, as of a field and its accessor in Java, that of the variable.
    """
    places = np.flatnonzero(is_bound)
    best_first = places[np.lexsort((-places, roles[places] == Role.FUNCTION))]
    return best_first[np.unique(words[best_first], return_index=True)[1]]


def _declares_member(found: ScopedIdentifiers) -> npt.NDArray[np.bool_]:
    """Whether each identifier is a function or variable that the body of a class binds."""
    roles, scopes = found.identifiers[:, 2], found.scopes
    is_class = np.append(found.is_class, False)  # the last one for what is around everything
    parents = np.append(found.parents, -1)
    of_class: npt.NDArray[np.bool_] = is_class[scopes]
    is_function = roles == Role.FUNCTION  # whose name stands in its own scope
    of_class[is_function] |= is_class[parents[scopes[is_function]]]
    of_class &= is_function | (roles == Role.VARIABLE)
    return of_class
