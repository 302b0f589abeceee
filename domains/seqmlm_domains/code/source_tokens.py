"""A text as tokens: names, keywords and signs as they are, literals without their content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm_domains.code.keyword_places import NEW_LINE, names_by_place
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.languages.lexicon import Kind, Lexicon

STRING_TOKEN: Final = "<str>"
NUMBER_TOKEN: Final = "<num>"
TEXT_TOKEN: Final = "<text>"
COMMENT_TOKEN: Final = "<comment>"
"""In place of what they hold; none is a name or a sign in any language."""

Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class SourceTokens:
    """The pieces of a text: every character is in one, so white space and comments are too.

    Args:
        text: the whole.
        language: whose lexicon cut it.
        words: the different pieces; every string is :data:`STRING_TOKEN`, every number
            :data:`NUMBER_TOKEN`, every text between tags :data:`TEXT_TOKEN`, every comment
            :data:`COMMENT_TOKEN`. What is a keyword in some places and a name in others is two.
        word_kinds: uint8 ``[words]``, a :class:`Kind` each.
        numbers: int32 ``[pieces]``, which of the words each piece is.
        ends: int32 ``[pieces]``, one past its last character; the next one begins there.
    """

    text: str
    language: str
    words: tuple[str, ...]
    word_kinds: npt.NDArray[np.uint8]
    numbers: Int32Array
    ends: Int32Array

    @classmethod
    def of(cls, text: str, language: str) -> SourceTokens:
        """Cut a text; about 10 MB/s on one core, whatever the text is."""
        lexicon = LANGUAGES[language].lexicon
        pieces, texts = _pieces(text, lexicon)
        number_of: dict[str, int] = {}
        words: dict[str, int] = {}
        kinds: list[Kind] = []
        for piece in dict.fromkeys(pieces):
            kind = lexicon.kind_of(piece) if piece else Kind.TEXT
            word = (
                NEW_LINE if kind == Kind.SPACE and "\n" in piece else _WORD_OF_KIND.get(kind, piece)
            )
            if word not in words:
                words[word] = len(words)
                kinds.append(kind)
            number_of[piece] = words[word]
        numbers = np.fromiter(map(number_of.__getitem__, pieces), np.int32, len(pieces))
        lengths = np.fromiter(map(len, pieces), np.int32, len(pieces))
        lengths[list(texts)] = [end - start for start, end in texts.values()]
        names = names_by_place(lexicon, pieces, words, np.array(kinds, np.uint8), numbers)
        also_names = np.unique(numbers[names])
        numbers[names] = len(words) + also_names.searchsorted(numbers[names])
        by_number = tuple(words)
        return cls(
            text,
            language,
            (*by_number, *(by_number[number] for number in also_names.tolist())),
            np.array([*kinds, *[Kind.NAME] * len(also_names)], np.uint8),
            numbers,
            np.cumsum(lengths, dtype=np.int32),
        )

    @property
    def kinds(self) -> npt.NDArray[np.uint8]:
        """Kind of each piece, uint8 ``[pieces]``."""
        return self.word_kinds[self.numbers]

    def span(self, piece: int) -> tuple[int, int]:
        """Return where a piece begins and ends."""
        return (int(self.ends[piece - 1]) if piece else 0), int(self.ends[piece])

    def code(self, start: int, end: int) -> Int32Array:
        """Return the words of some pieces without white space and comments, int32 ``[n]``."""
        numbers = self.numbers[start:end]
        return numbers[self.word_kinds[numbers] > Kind.COMMENT]


_WORD_OF_KIND: Final = {
    Kind.STRING: STRING_TOKEN,
    Kind.NUMBER: NUMBER_TOKEN,
    Kind.SPACE: " ",
    Kind.COMMENT: COMMENT_TOKEN,
    Kind.TEXT: TEXT_TOKEN,
}


def _pieces(text: str, lexicon: Lexicon) -> tuple[list[str], dict[int, tuple[int, int]]]:
    """The pieces of a text, and where those are that are no code; these are empty here."""
    pieces: list[str] = []
    texts: dict[int, tuple[int, int]] = {}
    end = 0
    spans = lexicon.find_texts(text) if lexicon.find_texts else ()
    for start, following in (*spans, (len(text), len(text))):
        whole = lexicon.pieces.findall(text, end, start)
        parts_of = {piece: lexicon.parts_of(piece) for piece in dict.fromkeys(whole)}
        pieces += chain.from_iterable(map(parts_of.__getitem__, whole))
        if start < following:
            texts[len(pieces)] = start, following
            pieces.append("")
        end = following
    return pieces, texts


class RecentTexts:
    """The tokens of the texts seen last: consecutive requests mostly ask about one text.

    Args:
        capacity: most texts kept.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._recent: list[SourceTokens] = []

    def tokens(self, text: str, language: str) -> SourceTokens:
        """Return the tokens of a text, cut now if they are not at hand.

        Several threads may ask at once: no list is changed in place.
        """
        recent = self._recent
        for known in recent:
            if known.language == language and known.text == text:
                found = known
                break
        else:
            found = SourceTokens.of(text, language)
        others = [known for known in recent if known is not found]
        self._recent = [found, *others[: self._capacity - 1]]
        return found


def names_of(tokens: SourceTokens) -> Sequence[str]:
    """Return the different names of a text, in order of their first occurrence."""
    is_name = tokens.word_kinds == Kind.NAME
    return [tokens.words[number] for number in np.flatnonzero(is_name)]
