"""What a class of the text declares, wherever in the text it stands.

At a cursor some 12,000 characters are parsed. The class of the object before its dot may be far
away: it is found by the word before its name, and parsed by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.syntax import parse_text_in_time

_CHARACTERS: Final = 12_000
"""Most of a class that are parsed: some 4 ms, once for as long as they stay the same."""

_KEPT: Final = 64

_STAND_IN: Final = " "

_DEFINES: Final = ("class", "enum", "interface", "namespace", "record", "type")
_SPACED: Final = 2
"""Pieces from such a word to the name."""


@dataclass(frozen=True, slots=True)
class ClassDefinition:
    """A class as a text defines it.

    Args:
        members: names that it declares or looks up in its own object, each once.
        bases: names of the classes in its head.
        types: of its members, see :class:`~seqmlm_domains.code.owners.Owners`.
    """

    members: tuple[str, ...]
    bases: tuple[str, ...]
    types: Mapping[str, str]


NO_DEFINITION: Final = ClassDefinition((), (), {})


def find_class(cursor: Cursor, name: str, *, timeout_s: float) -> ClassDefinition:
    """Return what the text around a cursor says of a class.

    That is nothing if it defines none by that name, or if it is not parsed in time.

    Args:
        cursor: where; what is being typed there is left out.
        name: of the class.
        timeout_s: seconds that the parser may take.
    """
    tokens = cursor.tokens
    piece = _definition(cursor, name)
    if piece is None:
        return NO_DEFINITION
    start = tokens.span(piece)[0]
    end = start + _CHARACTERS
    text = tokens.text[start:end]
    if start <= cursor.start < end:
        text = tokens.text[start : cursor.start]
        if len(cursor.right):
            end_of_name = tokens.span(cursor.next_piece - 1)[1]
            text += _STAND_IN + tokens.text[end_of_name:end]
    try:
        return _parsed(text, tokens.language, name, timeout_s)
    except TimeoutError:
        return NO_DEFINITION


def _definition(cursor: Cursor, name: str) -> int | None:
    """The first piece of what defines a class, the word before its name."""
    tokens = cursor.tokens
    if name not in tokens.words:
        return None
    places = np.flatnonzero(tokens.numbers == tokens.words.index(name)).tolist()
    spaced = (place - _SPACED for place in places if place >= _SPACED and place != cursor.piece)
    defines = (place for place in spaced if tokens.words[tokens.numbers[place]] in _DEFINES)
    return next(defines, None)


@lru_cache(maxsize=_KEPT)
def _parsed(text: str, language: str, name: str, timeout_s: float) -> ClassDefinition:
    """What the class at the beginning of a text declares; lateness, an error, is not kept."""
    found = parse_text_in_time(text, language, timeout_s=timeout_s)
    if found is None:
        raise TimeoutError
    assert found.owners is not None, "the parser tells them"
    members, bases = (
        tuple(dict.fromkeys(text[start:end] for start, end, _ in chosen.tolist()))
        for chosen in (
            found.identifiers[owners.where_any({name})]
            for owners in (found.owners.members, found.owners.heirs)
        )
    )
    return ClassDefinition(members, bases, found.owners.types)
