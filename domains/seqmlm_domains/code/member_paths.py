"""Types that one file leaves open: what is known of a name, and by which steps to go on from there.

``name()`` is the result of what is called so, and ``typeof name`` what is called so itself. Behind
these, or behind a class of another file, each step follows a dot: a ``member``, the result of a
``method()``, one of :data:`~seqmlm_domains.code.generic_types.EACH` and the like, or
:data:`ELSE` with a name, by which alone one that turns out to be unknown is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from seqmlm_domains.code.generic_types import AWAITED, STEPS, simple, taken

RESULT_OF: Final = b"()"
ITSELF: Final = b"typeof "

OWN_MODULE: Final = ITSELF + b"/"
"""Owner of what the text declares for all who import it."""

MODULES: Final = ITSELF + b"*"
"""Owner of the names of modules."""

ELSE: Final = b"[else]"

TypeOf = Callable[[bytes], bytes | None]
"""Tells the type of a member of a class, or of a function's result; None if it is not known."""

_DOT: Final = b"."
_MOST_STEPS: Final = 4


def member_of(owner: bytes | None, step: bytes) -> bytes:
    """Return the type of a member, or of what a method gives; that by its name alone if need be.

    Args:
        owner: in which it is looked up; None if that is not known.
        step: name of the member, :data:`RESULT_OF` behind that of a method.
    """
    if owner is None or owner.count(_DOT) >= _MOST_STEPS:
        return _by_name(step)
    return simple(owner) + _DOT + step


def taken_of(type_: bytes | None, step: bytes) -> bytes | None:
    """Return the type of what is taken of an object; None where that is not known."""
    if type_ is None or (type_.startswith(ITSELF) and _DOT not in type_):
        return type_ if step == AWAITED else None
    if not is_open(type_):
        return taken(type_, step)
    return type_ + _DOT + step if type_.count(_DOT) < _MOST_STEPS else None


def told_by_name(type_: bytes | None, name: bytes) -> bytes | None:
    """Return the type that a name is given, or that by the name alone if need be."""
    if type_ is None or type_.rpartition(_DOT)[2] not in STEPS:
        return type_
    return type_ + _DOT + ELSE + name


def is_open(type_: bytes) -> bool:
    """Say whether a type is left open."""
    return _DOT in type_ or type_.endswith(RESULT_OF) or type_.startswith(ITSELF)


def followed(path: bytes, type_of: TypeOf) -> bytes | None:
    """Return the type that one which is left open turns out to be; None if nothing is known of it.

    Args:
        path: the type.
        type_of: tells that of ``Class.member``, see :class:`~seqmlm_domains.code.owners.Owners`,
            and that of the result of ``function()``.
    """
    return _followed(path, type_of, _MOST_STEPS)


def _followed(path: bytes, type_of: TypeOf, deeper: int) -> bytes | None:
    root, *steps = path.split(_DOT)
    found: bytes | None = type_of(root) or root
    for step in steps:
        if step.startswith(ELSE):
            found = found or ITSELF + step.removeprefix(ELSE)
        elif found is None:
            found = None if step in STEPS else _by_name(step)
        elif step not in STEPS:
            member = class_meant(found) + _DOT + step
            found = type_of(member) or type_of(member.removesuffix(RESULT_OF))
            if found is not None and is_open(found):
                found = _followed(found, type_of, deeper - 1) if deeper else None
            found = found or _by_name(step)
        elif not is_open(found):
            found = taken(found, step)
        elif step != AWAITED:
            found = None
    return found


def class_meant(type_: bytes) -> bytes:
    """Return the class that a type is, or that it is or makes an object of if it is that of one."""
    return simple(type_).removeprefix(ITSELF).removesuffix(RESULT_OF)


def _by_name(step: bytes) -> bytes:
    return step if step.endswith(RESULT_OF) else ITSELF + step
