"""Tells names from keywords by where they stand: ``type`` is one in some places and one in others.

A parser would know exactly, but takes longer than cutting a whole text into tokens, and what it
says of code that is being typed depends on what is far away. What stands right before and behind a
word tells as much but for one in a thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm_domains.code.languages.lexicon import Kind, Lexicon

BoolArray = npt.NDArray[np.bool_]

NEW_LINE: Final = "\n"
"""Word of white space that a line ends in."""

_FOLLOWS_KEYWORD = (Kind.NAME, Kind.KEYWORD, Kind.STRING, Kind.NUMBER)
_BRACE = "{"


def names_by_place(
    lexicon: Lexicon,
    pieces: Sequence[str],
    number_of: Mapping[str, int],
    kinds: npt.NDArray[np.uint8],
    numbers: npt.NDArray[np.int32],
) -> npt.NDArray[np.int64]:
    """Return which pieces are names, of those that may be keywords, int64 ``[n]``.

    Args:
        lexicon: of the language.
        pieces: of the text.
        number_of: each word, and its number.
        kinds: uint8 ``[words]``, of the words by themselves.
        numbers: int32 ``[pieces]``, the word of each piece.
    """
    nothing = len(kinds)  # in place of a word, at the edges of the text
    code = np.flatnonzero(kinds[numbers] > Kind.COMMENT)
    words = np.concatenate([[nothing], numbers[code], [nothing]])
    places = np.flatnonzero(kinds[numbers[code]] == Kind.KEYWORD)
    word, before, behind = words[places + 1], words[places], words[places + 2]

    def are(chosen: Iterable[str]) -> BoolArray:
        """Which words are some of those; none where the text ends."""
        found = np.zeros(nothing + 1, np.bool_)
        found[[number_of[one] for one in chosen if one in number_of]] = True
        return found

    governs = np.append(np.isin(kinds, _FOLLOWS_KEYWORD), False)
    governs &= ~are(lexicon.joining_words)
    governs |= are([_BRACE])
    lines = np.cumsum(are([NEW_LINE])[numbers])[code]
    is_last = np.append(np.diff(lines) > 0, True)[places]  # of its line
    is_soft = are(lexicon.soft_keywords)[word]
    is_name = is_soft & (is_last | ~governs[behind])
    is_literal = np.append(kinds == Kind.STRING, False)[behind]
    for number in np.flatnonzero(is_soft & is_literal & ~is_name).tolist():
        is_name[number] = lexicon.is_behind_expression(pieces[code[places[number] + 1]])
    is_open = np.ones(len(places), np.bool_)
    for place in lexicon.places:
        fits = is_open & are(place.words)[word]
        if place.before is not None:
            fits &= are(place.before)[before]
        if place.behind is not None:
            fits &= are(place.behind)[behind]
        is_name[fits] = place.is_name
        is_open &= ~fits
    found: npt.NDArray[np.int64] = code[places[is_name]]
    return found
