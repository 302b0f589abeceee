"""Which names the syntax calls for at a cursor, and which it rules out there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.completion.cursor_syntax import (
    BINDING_ROLES,
    MEMBER_SIGNS,
    CursorSyntax,
)
from seqmlm_domains.code.completion.elements import ElementPlace, element_names
from seqmlm_domains.code.completion.exceptions import exceptions, is_exception_due
from seqmlm_domains.code.completion.members import KnownMembers
from seqmlm_domains.code.completion.names import KnownNames
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.member_paths import ITSELF, MODULES
from seqmlm_domains.code.roles import MEMBER_ROLES, Role

BoolArray = npt.NDArray[np.bool_]

_IMPORTED: Final = (Role.IMPORT, Role.CLASS, Role.FUNCTION)
"""Of names that an import may hold, whatever it is of."""

_USES: Final = (Role.READ, Role.CALL, Role.TYPE)

DECLARED_BY_MODULE: Final = "declared by its module"
SEEN_IN_MODULE: Final = "seen in its module"
EXCEPTION: Final = "exception"
ELEMENT: Final = "element"
OF_ASKED_TYPE: Final = "asked type in scope"
EXPECTED: Final = (DECLARED_BY_MODULE, SEEN_IN_MODULE, EXCEPTION, ELEMENT, OF_ASKED_TYPE)
"""Kinds of names that a place can call for."""


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedNames:
    """What the syntax says of names at a cursor.

    In an import it calls for what the module is known to hold, else for what the text uses and
    nothing binds; behind a module and a dot for what it is known to hold; where something is raised
    or caught for exceptions; in a tag for the components in scope and the elements of the text; of
    names of some types for those in scope.

    Args:
        kind: of those it calls for; None where they may be any.
        is_expected: bool ``[names]``, which they are.
        is_possible: bool ``[names]``, those that may stand there.
    """

    kind: str | None
    is_expected: BoolArray
    is_possible: BoolArray

    @classmethod
    def at(
        cls,
        cursor: Cursor,
        names: KnownNames,
        syntax: CursorSyntax,
        members: KnownMembers,
        types: frozenset[str] | None,
    ) -> ExpectedNames:
        """Tell them at a cursor.

        Args:
            cursor: where.
            names: that may be proposed.
            syntax: what the parser tells there.
            members: of the class or module that the name is looked up in.
            types: that are asked for.
        """
        if (element := ElementPlace.at(cursor)) is not None:
            return cls(ELEMENT, *_of_tag(element, names, syntax, members))
        if syntax.role == Role.IMPORT:
            return cls(_of_module(names, syntax), *_of_import(names, syntax, members))
        any_name = np.ones(len(names), np.bool_)
        if _is_behind_module(cursor, syntax):
            return cls(_of_module(names, syntax), members.counts > 0, any_name)
        if syntax.role not in MEMBER_ROLES and is_exception_due(cursor):
            return cls(EXCEPTION, exceptions(names, syntax), any_name)
        expected = np.zeros(len(names), np.bool_)
        if syntax.role in MEMBER_ROLES or types is None:
            return cls(None, expected, any_name)
        expected[names.of_words[syntax.bound]] = syntax.bound_types.where_any(types)
        return cls(OF_ASKED_TYPE, expected, any_name)


def _of_tag(
    element: ElementPlace, names: KnownNames, syntax: CursorSyntax, members: KnownMembers
) -> tuple[BoolArray, BoolArray]:
    """Which names a tag calls for, and which may stand in it; see :func:`.element_names`."""
    possible = element_names(element, names, syntax, members)
    expected = np.zeros(len(names), np.bool_)
    expected[names.of_words[syntax.bound]] = True
    expected &= names.is_capitalised
    expected[names.numbers_of(element.elements)] = True
    return expected & possible, possible


def _of_module(names: KnownNames, syntax: CursorSyntax) -> str:
    """What the names are that are known of a module: all of one of the project."""
    members = names.table.members
    owner = syntax.owner or ""
    is_declared = not members.modules.isdisjoint([owner, *members.bases.get(owner, ())])
    return DECLARED_BY_MODULE if is_declared else SEEN_IN_MODULE


def _of_import(
    names: KnownNames, syntax: CursorSyntax, members: KnownMembers
) -> tuple[BoolArray, BoolArray]:
    """Which names an import calls for, and which may stand in it.

    These are what the project imports or declares for others, and what the text uses without
    binding it: no parameters and variables, and no names that are merely called elsewhere. In place
    of a module stands one, or what the text uses.
    """
    around = names.of_words[syntax.words]
    is_used = np.zeros(len(names), np.bool_)
    is_used[around[np.isin(syntax.roles, _USES)]] = True
    is_used[names.numbers_of(LANGUAGES[names.language].built_in.all)] = False
    is_bound = np.zeros(len(names), np.bool_)
    is_bound[around[np.isin(syntax.roles, BINDING_ROLES)]] = True
    is_imported = np.zeros(len(names), np.bool_)
    is_imported[around[syntax.roles == Role.IMPORT]] = True
    possible = is_used.copy()
    possible[: len(names.table.names)] |= names.table.role_counts[:, _IMPORTED].any(1)
    possible[names.table.members.of_modules] = True
    possible &= ~is_bound | is_imported
    is_wanted = is_used & ~is_bound
    is_held = members.counts > 0
    language = LANGUAGES[names.language]
    if syntax.owner == MODULES.decode():
        if language.modules_are_strings:  # which one it is stands behind the names
            return is_wanted, possible
        if syntax.owner in names.table.members.number_of:
            possible = is_wanted
    expected = is_held | is_wanted if _of_module(names, syntax) == SEEN_IN_MODULE else is_held
    if not language.package_is_folder:  # there the words of a package bind nothing
        expected = expected & ~is_imported
    return expected, possible | is_held


def built_in_at(cursor: Cursor, names: KnownNames, syntax: CursorSyntax) -> npt.NDArray[np.int64]:
    """Return the numbers of the names of the language that may stand at a cursor.

    Plain names in expressions, types where these are due, and elements in tags.
    """
    built_in = LANGUAGES[names.language].built_in
    if syntax.role not in _USES:
        return np.zeros(0, np.int64)
    if ElementPlace.at(cursor) is not None:
        chosen = built_in.elements
    elif syntax.role == Role.TYPE:
        chosen = built_in.classes | built_in.exceptions
    else:
        chosen = frozenset(built_in.all) - built_in.elements
    return names.numbers_of(chosen & {*names.built_in})


def _is_behind_module(cursor: Cursor, syntax: CursorSyntax) -> bool:
    """Whether the names and dots before the cursor begin with what is imported."""
    if syntax.owner is None or not syntax.owner.startswith(ITSELF.decode()):
        return False
    words, left = cursor.tokens.words, cursor.left
    place = len(left)
    while place > 1 and words[left[place - 1]] in MEMBER_SIGNS:
        place -= 2
    if place == len(left):
        return False
    imports = syntax.bound[syntax.bound_roles == Role.IMPORT]
    return left[place] in imports or words[left[place]].encode() in syntax.imported_above
