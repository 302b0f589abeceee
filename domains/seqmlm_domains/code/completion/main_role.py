"""What a name is and which type it has, for what editors show beside it."""

from __future__ import annotations

from typing import Final

import numpy as np

from seqmlm_domains.code.completion.cursor_syntax import CursorSyntax
from seqmlm_domains.code.completion.names import KnownNames
from seqmlm_domains.code.declared_types import NO_TYPE
from seqmlm_domains.code.roles import Role

_PLAIN: Final = (Role.VARIABLE, Role.PARAMETER, Role.IMPORT, Role.CALL, Role.TYPE)
_OTHERWISE: Final = (Role.ATTRIBUTE, Role.KEYWORD, Role.READ)


def main_role(number: int, names: KnownNames, syntax: CursorSyntax) -> Role | None:
    """Return what a name mostly does in the project and around the cursor; None if nothing.

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
    return None


def main_type(number: int, names: KnownNames, syntax: CursorSyntax) -> str | None:
    """Return the type that a name is mostly declared with; None if with none.

    That around the cursor goes before that in the project.

    Args:
        number: of the name.
        names: that may be proposed.
        syntax: at the cursor.
    """
    around = syntax.types.numbers[names.of_words[syntax.words] == number]
    around = around[around != NO_TYPE]
    if len(around):
        return syntax.types.names[int(np.bincount(around).argmax())]
    if number >= len(names.table.names):
        return None
    counts = names.table.types.of_name(number)
    return max(counts, key=counts.__getitem__) if counts else None
