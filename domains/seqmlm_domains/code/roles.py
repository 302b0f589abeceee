"""What an identifier does where it stands: the types of the units of code."""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final


@unique
class Role(IntEnum):
    """The syntactic role of one occurrence of a name; the numbers are saved with token stores.

    They are what the ``types`` of a typed selector mean, where they may also be named in lower
    case. Roles come from the syntax tree alone: no
    name is resolved, and what cannot be told from the tree is :attr:`READ`.
    """

    READ = 0
    """A plain name whose value is used, and whatever no rule covers."""
    ATTRIBUTE = 1
    """A name behind a dot, whether read, assigned or called."""
    CALL = 2
    """A plain name that is called."""
    VARIABLE = 3
    """A variable, constant or field where it is declared or assigned."""
    PARAMETER = 4
    """A parameter of a function where it is declared."""
    FUNCTION = 5
    """A function or method where it is defined."""
    CLASS = 6
    """A class, interface, enumeration, namespace, type alias or parameter where it is defined."""
    TYPE = 7
    """A type in a declaration or annotation."""
    IMPORT = 8
    """A name in an import."""
    KEYWORD = 9
    """The name of a keyword argument, object key (of a method too) or attribute of an element."""
    OTHER = 10
    """No identifier: keywords, signs, literals, comments."""


MEMBER_ROLES: Final = (Role.ATTRIBUTE, Role.KEYWORD)
"""Of names that are looked up in an object, and not in the scopes around."""
