"""What a class of the text declares, wherever in the text it stands.

At a cursor some 12,000 characters are parsed. The class of the object before its dot may be far
away: it is found by the word before its name, and parsed by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.syntax import find_scoped_identifiers

_CHARACTERS: Final = 12_000
"""Most of a class that are parsed: some 4 ms, once for as long as they stay the same."""

_KEPT: Final = 64

_STAND_IN: Final = " "

_DEFINES: Final = r"(?<![\w$.])(?:class|enum|interface|namespace|record|type)\s+"


@dataclass(frozen=True, slots=True)
class ClassDefinition:
    """A class as a text defines it.

    Args:
        members: names that it declares or looks up in its own object, each once.
        bases: names of the classes in its head.
    """

    members: tuple[str, ...]
    bases: tuple[str, ...]


NO_DEFINITION: Final = ClassDefinition((), ())


def find_class(cursor: Cursor, name: str, *, timeout_s: float) -> ClassDefinition:
    """Return what the text around a cursor says of a class.

    That is nothing if it defines none by that name, or if it is not parsed in time.

    Args:
        cursor: where; what is being typed there is left out.
        name: of the class.
        timeout_s: seconds that the parser may take.
    """
    tokens = cursor.tokens
    defines = re.compile(rf"{_DEFINES}{re.escape(name)}(?![\w$])")
    found = defines.search(tokens.text, 0, cursor.start)
    if found is None and len(cursor.right):
        found = defines.search(tokens.text, cursor.start)
    if found is None:
        return NO_DEFINITION
    start, end = found.start(), found.start() + _CHARACTERS
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


@lru_cache(maxsize=_KEPT)
def _parsed(text: str, language: str, name: str, timeout_s: float) -> ClassDefinition:
    """What the class at the beginning of a text declares; lateness, an error, is not kept."""
    found = find_scoped_identifiers(text, language, place=0, timeout_s=timeout_s)
    if found is None:
        raise TimeoutError
    chosen = []
    for owners in (found.owners.members, found.owners.heirs):
        is_own = owners.where_any({name})
        names = (text[start:end] for start, end, _ in found.identifiers[is_own].tolist())
        chosen.append(tuple(dict.fromkeys(names)))
    return ClassDefinition(*chosen)
