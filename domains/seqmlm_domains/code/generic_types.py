"""Types as they are kept: a name, and behind it between ``<`` and ``>`` what it is a type of.

``list[Ship]`` is ``list<Ship>``, and the array ``Ship[]``, whose name that is, ``Ship[]<Ship>``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

EACH: Final = b"[each]"
ITEM: Final = b"[item]"
ONLY: Final = b"[only]"
AWAITED: Final = b"[awaited]"
"""What is taken of an object: what a loop over it gives, what an index does, the only kind of thing
that it holds, and what it promises."""

UNKNOWN: Final = b"?"
"""Stands for an argument that has no name."""

PROMISES: Final = frozenset({b"Promise", b"PromiseLike", b"Awaitable", b"Coroutine"})


def spelled(name: bytes, arguments: Sequence[bytes]) -> bytes:
    """Return a type of a name and arguments."""
    return name + b"<" + b",".join(arguments) + b">" if arguments else name


def simple(type_: bytes) -> bytes:
    """Return the name of a type, generics aside."""
    return type_.partition(b"<")[0]


def arguments_of(type_: bytes) -> list[bytes]:
    """Return what a type is one of."""
    inner = type_[len(simple(type_)) + 1 : -1]
    found: list[bytes] = []
    depth = first = 0
    for place, sign in enumerate(inner):
        depth += (sign == ord("<")) - (sign == ord(">"))
        if sign == ord(",") and not depth:
            found.append(inner[first:place])
            first = place + 1
    return [*found, inner[first:]] if inner else []


def taken(type_: bytes, step: bytes) -> bytes | None:
    """Return the type of what is taken of an object; None if that of the object does not tell."""
    found = _TAKEN[step](type_)
    return None if found == UNKNOWN else found


def _each(type_: bytes) -> bytes | None:
    return next(iter(arguments_of(type_)), None)


def _item(type_: bytes) -> bytes | None:
    return next(reversed(arguments_of(type_)), None)


def _only(type_: bytes) -> bytes | None:
    arguments = arguments_of(type_)
    return arguments[0] if len(arguments) == 1 else None


def _awaited(type_: bytes) -> bytes | None:
    return _item(type_) if simple(type_) in PROMISES else type_


_TAKEN: Final[Mapping[bytes, Callable[[bytes], bytes | None]]] = {
    EACH: _each,
    ITEM: _item,
    ONLY: _only,
    AWAITED: _awaited,
}
STEPS: Final = frozenset(_TAKEN)
