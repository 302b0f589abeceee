"""Which names are those of exceptions, and where one is due."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.completion.cursor_syntax import CursorSyntax
from seqmlm_domains.code.completion.names import KnownNames
from seqmlm_domains.code.declared_types import NO_TYPE
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.roles import Role

BoolArray = npt.NDArray[np.bool_]

_MOST_WORDS: Final = 30
"""Before the cursor, that are looked at: lists of exceptions are short."""

_LISTED: Final = re.compile(r"(?<!\S)(?:[\w$]+(?: \. [\w$]+)* [,|] )+\Z")
_CALLED_SO: Final = re.compile(r"[A-Z]\w*(?:Error|Exception)")

_CLASSES: Final = (Role.CLASS, Role.TYPE, Role.IMPORT, Role.READ, Role.CALL)
"""What a class may do; an attribute of that name is an exception of another module."""

_of_tables: WeakKeyDictionary[ContextTable, frozenset[str]] = WeakKeyDictionary()


def is_exception_due(cursor: Cursor) -> bool:
    """Say whether what stands before a cursor raises or catches what is named there."""
    words = cursor.tokens.words
    code = "".join(f"{words[number]} " for number in cursor.left[-_MOST_WORDS:].tolist())
    code = _LISTED.sub("", code).rstrip()
    places = LANGUAGES[cursor.tokens.language].exception_places
    return any(f" {code}".endswith(f" {place}") for place in places)


def exceptions(names: KnownNames, syntax: CursorSyntax) -> BoolArray:
    """Return which names are those of exceptions, bool ``[names]``.

    Those of the language, and classes that are called an error or exception; where not all are by
    convention, also those that are derived from one in the project or around the cursor.

    Args:
        names: that may be proposed.
        syntax: at the cursor.
    """
    if names.table not in _of_tables:
        _of_tables[names.table] = _of_project(names.table, names.language)
    known = {*_of_tables[names.table], *filter(_CALLED_SO.fullmatch, names.own)}
    if not LANGUAGES[names.language].exceptions_are_called_so:
        bases = syntax.owners.heirs
        around: dict[str, list[str]] = {}
        for place in np.flatnonzero(bases.numbers != NO_TYPE).tolist():
            base = names[int(names.of_words[syntax.words[place]])]
            around.setdefault(base, []).append(bases.names[bases.numbers[place]])
        known |= _heirs_of(known, around)
    found = np.zeros(len(names), np.bool_)
    found[names.numbers_of(known)] = True
    return found


def _of_project(table: ContextTable, language: str) -> frozenset[str]:
    """The exceptions of a project and of its language."""
    is_class = table.role_counts[:, _CLASSES].sum(1) > 0
    called_so = filter(_CALLED_SO.fullmatch, table.names)
    known = {name for name in called_so if is_class[table.number_of[name]]}
    known |= LANGUAGES[language].built_in.exceptions
    if LANGUAGES[language].exceptions_are_called_so:
        return frozenset(known)
    heirs: dict[str, list[str]] = {}
    for heir, bases in table.members.bases.items():
        for base in bases:
            heirs.setdefault(base, []).append(heir)
    return frozenset(known | _heirs_of(known, heirs))


def _heirs_of(known: Collection[str], heirs: Mapping[str, Sequence[str]]) -> set[str]:
    """All that inherit from some classes, and what inherits from those."""
    found: set[str] = set()
    new = list(known)
    while new:
        added = [heir for heir in heirs.get(new.pop(), ()) if heir not in found]
        found.update(added)
        new += added
    return found
