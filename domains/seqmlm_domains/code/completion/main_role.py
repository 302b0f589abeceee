"""What a name is and which type it has, for what editors show beside it."""

from __future__ import annotations

from typing import Final

import numpy as np

from seqmlm_domains.code.completion.cursor_syntax import BINDING_ROLES, CursorSyntax, owner_names
from seqmlm_domains.code.completion.names import KnownNames
from seqmlm_domains.code.declared_types import NO_TYPE
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.roles import MEMBER_ROLES, Role

_PLAIN: Final = (Role.VARIABLE, Role.PARAMETER, Role.IMPORT, Role.CALL, Role.TYPE)
_FUNCTIONS: Final = (Role.FUNCTION, Role.CLASS)
_OTHERWISE: Final = (Role.ATTRIBUTE, Role.KEYWORD, Role.READ)
_DECLARED: Final = (Role.VARIABLE, Role.PARAMETER, Role.FUNCTION)
"""What a name can be declared as with a type, functions with that of their result."""


def main_role(number: int, names: KnownNames, syntax: CursorSyntax) -> Role | None:
    """Return what a name mostly does in the project and around the cursor, else in its language.

    A function or class is mostly called: defined as such at least as often as it is bound
    otherwise, it is one. Behind a dot anything else is an attribute.

    Args:
        number: of the name.
        names: that may be proposed.
        syntax: at the cursor.
    """
    around = syntax.roles[names.of_words[syntax.words] == number]
    counts = np.bincount(around, minlength=len(Role))
    if number < len(names.table.names):
        counts = counts + names.table.role_counts[number]
    defined = counts[Role.FUNCTION] + counts[Role.CLASS]
    if defined and defined >= counts[Role.VARIABLE] + counts[Role.PARAMETER]:
        return max(Role.FUNCTION, Role.CLASS, key=counts.__getitem__)
    if syntax.role == Role.ATTRIBUTE:
        return Role.ATTRIBUTE
    for roles in (_PLAIN, _OTHERWISE):
        role = max(roles, key=counts.__getitem__)
        if counts[role]:
            return role
    return _role_in_language(names[number], names.language)


def _role_in_language(name: str, language: str) -> Role | None:
    """What a name is that neither project nor text uses."""
    built_in = LANGUAGES[language].built_in
    if name in built_in.functions:
        return Role.FUNCTION
    if name in built_in.classes or name in built_in.exceptions:
        return Role.CLASS
    return Role.VARIABLE if name in built_in.values else None


def main_type(number: int, names: KnownNames, syntax: CursorSyntax) -> str | None:
    """Return the type that a name is declared with; None if with none, or if it is a function.

    Where the name is bound at the cursor, that declaration tells; a name of the text that none of
    its bindings gives a type has none. The project tells of other names; of members those of the
    class that they are looked up in, where all their declarations agree.

    Args:
        number: of the name.
        names: that may be proposed.
        syntax: at the cursor.
    """
    if syntax.role not in MEMBER_ROLES:
        for place in np.flatnonzero(names.of_words[syntax.bound] == number).tolist():
            is_function = syntax.bound_roles[place] in _FUNCTIONS
            return None if is_function else syntax.bound_types.name_at(place)
    if main_role(number, names, syntax) in _FUNCTIONS:
        return None
    is_it = names.of_words[syntax.words] == number
    if syntax.role == Role.ATTRIBUTE:
        is_it &= syntax.owners.members.where_any(owner_names(syntax))
    around = syntax.types.numbers[is_it]
    around = around[around != NO_TYPE]
    if len(around):
        return syntax.types.names[int(np.bincount(around).argmax())]
    if number >= len(names.table.names) or np.isin(syntax.roles[is_it], BINDING_ROLES).any():
        return None
    counts = names.table.types.of_name(number)
    if syntax.role == Role.ATTRIBUTE:
        of_owner = names.table.members.of_owner(syntax.owner or "")
        is_member = of_owner is not None and number in of_owner[0]
        return next(iter(counts)) if is_member and len(counts) == 1 else None
    return max(counts, key=counts.__getitem__) if counts else None


def role_and_type(
    number: int, names: KnownNames, syntax: CursorSyntax, types: frozenset[str]
) -> tuple[Role | None, str]:
    """Return which of some types a name has, functions that of their result, and as what.

    Args:
        number: of the name, which has one of the types.
        names: that may be proposed.
        syntax: at the cursor.
        types: that are asked for.
    """
    if syntax.role not in MEMBER_ROLES:
        for place in np.flatnonzero(names.of_words[syntax.bound] == number).tolist():
            declared = syntax.bound_types.name_at(place)
            assert declared is not None, "what is bound with another type, or none, is left out"
            return Role(int(syntax.bound_roles[place])), declared
    is_it = (names.of_words[syntax.words] == number) & syntax.types.where_any(types)
    places = np.flatnonzero(is_it).tolist()
    if places:
        first = next((n for n in places if syntax.roles[n] in BINDING_ROLES), places[0])
        return Role(int(syntax.roles[first])), syntax.types.names[syntax.types.numbers[first]]
    counts = {type_: n for type_, n in names.table.types.of_name(number).items() if type_ in types}
    roles = names.table.role_counts[number]
    declared_as = max(_DECLARED, key=roles.__getitem__)
    role = declared_as if roles[declared_as] else main_role(number, names, syntax)
    return role, max(counts, key=counts.__getitem__)
