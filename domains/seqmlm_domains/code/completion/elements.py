"""Which names may stand where JSX names an element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.completion.cursor_syntax import CursorSyntax
from seqmlm_domains.code.completion.members import KnownMembers
from seqmlm_domains.code.completion.names import KnownNames
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.languages.lexicon import Kind
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.source_tokens import Int32Array, SourceTokens

BoolArray = npt.NDArray[np.bool_]

_MOST_WORDS: Final = 4_000
"""Before the cursor, in which the element that is open is looked for."""

_OPERANDS: Final = (Kind.NAME, Kind.NUMBER, Kind.STRING)
_VALUES: Final = (Role.READ, Role.CALL, Role.FUNCTION, Role.VARIABLE)
_BOUND_VALUES: Final = (Role.FUNCTION, Role.VARIABLE, Role.PARAMETER)

_LONGEST_TAG: Final = 1_000
"""Words."""


@dataclass(frozen=True, slots=True)
class ElementPlace:
    """A place where the name of an element is due, or a part of it.

    Args:
        parts: names that are there already, each with a dot behind it.
        is_closing: whether it is that of a closing tag.
        open_element: parts of the name of the innermost element that is open there, of a closing
            tag alone; none of a fragment, or if none is open.
        elements: names of elements that are before it.
    """

    parts: tuple[str, ...]
    is_closing: bool
    open_element: tuple[str, ...]
    elements: frozenset[str]

    @classmethod
    def at(cls, cursor: Cursor) -> ElementPlace | None:
        """Look at a place; None if the angle bracket there can only compare, or there is none."""
        if not LANGUAGES[cursor.tokens.language].has_elements:
            return None
        numbers = cursor.left[-_MOST_WORDS:]
        words = [cursor.tokens.words[number] for number in numbers.tolist()]
        end = len(words)
        while end > 1 and words[end - 1] == ".":
            end -= 2
        is_closing = words[max(0, end - 2) : end] == ["<", "/"]
        bracket = end - 1 - is_closing
        if bracket < 0 or words[bracket] != "<":
            return None
        if not is_closing and _is_behind_operand(bracket, words, cursor.tokens, numbers):
            return None
        tags = _tags(words[:bracket], cursor.tokens, numbers)
        named = frozenset(name[0] for name, _ in tags if name)
        return cls(tuple(words[end::2]), is_closing, _innermost(tags) if is_closing else (), named)


_Tag = tuple[tuple[str, ...], int]
"""Parts of the name; 1 if the tag opens an element, -1 if it closes one, 0 if it is all of it."""


def _tags(words: Sequence[str], tokens: SourceTokens, numbers: Int32Array) -> list[_Tag]:
    """The tags among some words, in order."""
    found: list[_Tag] = []
    for start in (place for place, word in enumerate(words) if word == "<"):
        is_closing = words[start + 1 : start + 2] == ["/"]
        if not is_closing and _is_behind_operand(start, words, tokens, numbers):
            continue
        end = start + 1 + is_closing
        name = []
        while end < len(words) and tokens.word_kinds[numbers[end]] in (Kind.NAME, Kind.KEYWORD):
            name.append(words[end])
            end += 1 + (words[end + 1 : end + 2] == ["."])
        braces, last = 0, min(len(words), start + _LONGEST_TAG)
        while end < last and (braces or words[end] != ">"):
            braces += (words[end] == "{") - (words[end] == "}")
            end += 1
        if end < last:
            is_whole = words[end - 1] == "/" and not is_closing
            found.append((tuple(name), 0 if is_whole else -1 if is_closing else 1))
    return found


def _innermost(tags: Sequence[_Tag]) -> tuple[str, ...]:
    """The name of the last element that is opened and not closed."""
    closed = 0
    for name, opens in reversed(tags):
        if opens > 0 and not closed:
            return name
        closed -= opens
    return ()


def _is_behind_operand(
    place: int, words: Sequence[str], tokens: SourceTokens, numbers: Int32Array
) -> bool:
    """Whether what is before a sign can be compared with what is behind it."""
    if not place:
        return False
    return words[place - 1] in ")]" or tokens.word_kinds[numbers[place - 1]] in _OPERANDS


def element_names(
    place: ElementPlace, names: KnownNames, syntax: CursorSyntax, members: KnownMembers
) -> BoolArray:
    """Return which names may stand there, bool ``[names]``.

    In a closing tag the open element's alone. Else components, which begin with a capital and are
    not mostly types, and elements of HTML or such as the text has; behind a dot what stood there.

    Args:
        place: in the tag.
        names: that may be proposed.
        syntax: what the parser tells there.
        members: of what is before the dot.
    """
    found = np.zeros(len(names), np.bool_)
    depth = len(place.parts)
    if place.is_closing:
        due = place.open_element[depth : depth + 1]
        found[names.numbers_of(due)] = place.open_element[:depth] == place.parts
        return found
    counts = _role_counts(names, syntax)
    if depth:
        found[:] = names.is_capitalised & (counts[:, Role.ATTRIBUTE] > 0)
        found[members.counts > 0] = True
        return found
    types, values = counts[:, Role.TYPE], counts[:, _VALUES].sum(1)
    is_value = (types == 0) | (types < values)
    is_value[names.of_words[syntax.bound[np.isin(syntax.bound_roles, _BOUND_VALUES)]]] = True
    found[:] = names.is_capitalised & is_value
    found[names.numbers_of([*LANGUAGES[names.language].built_in.elements, *place.elements])] = True
    return found


def _role_counts(names: KnownNames, syntax: CursorSyntax) -> npt.NDArray[np.int64]:
    """How often each name does what in the project and around the cursor, ``[names, Role]``."""
    counts = np.zeros((len(names), len(Role)), np.int64)
    counts[: len(names.table.names)] = names.table.role_counts
    np.add.at(counts, (names.of_words[syntax.words], syntax.roles), 1)
    return counts
