"""What is being typed at the cursor, and the tokens on either side of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.languages.lexicon import Kind
from seqmlm_domains.code.source_tokens import Int32Array, SourceTokens

MOST_BEFORE: Final = 200_000
MOST_BEHIND: Final = 100_000
"""Characters before and behind the cursor that are looked at: some 30 ms of work, and no more than
300 where every word is another one.
"""

MOST_LEFT_OUT: Final = 10_000
"""Characters more that are left out for the part to begin at a line without indentation."""

_LINE = re.compile(r"\n(?=.)", re.DOTALL)
_LINE_WITHOUT_INDENTATION = re.compile(r"\n(?=\S)")


def part_around(source: str, offset: int) -> tuple[str, int]:
    """Return the part of a long text that is looked at, and the offset in it.

    It begins at a line, one without indentation if one is near: that is seldom within a literal.
    """
    first = offset - MOST_BEFORE
    if first > 0:
        # The next one may be far away in a large class, and as little may be left as that leaves.
        line = _LINE_WITHOUT_INDENTATION.search(source, first, first + MOST_LEFT_OUT)
        line = line or _LINE.search(source, first, first + MOST_LEFT_OUT)
        first = line.end() if line else first
    first = max(0, first)
    last = source.find("\n", offset + MOST_BEHIND)
    return source[first : last if last >= 0 else offset + 2 * MOST_BEHIND], offset - first


@dataclass(frozen=True, eq=False)
class Cursor:
    """A place where a name can stand.

    Args:
        tokens: of the whole text.
        offset: of the cursor, in characters.
        prefix: what is typed of the name, from ``start`` to ``offset``.
        start: where the name begins.
        piece: number of the piece that is being typed, or of the one that follows the cursor.
        next_piece: the first piece behind the name.
    """

    tokens: SourceTokens
    offset: int
    prefix: str
    start: int
    piece: int
    next_piece: int

    @classmethod
    def at(cls, tokens: SourceTokens, offset: int) -> Cursor | None:
        """Look at a place; None within a comment, a literal or a number.

        Of a word that goes on behind the cursor, the rest belongs to neither side.

        Raises:
            ValueError: the offset lies outside the text.
        """
        if not 0 <= offset <= len(tokens.text):
            raise ValueError(f"offset {offset} is outside a text of {len(tokens.text)} characters")
        behind = int(tokens.ends.searchsorted(offset))  # the piece that ends here or goes on
        if offset == 0:
            return cls(tokens, 0, "", 0, 0, 0)
        start, end = tokens.span(behind)
        kind = Kind(tokens.word_kinds[tokens.numbers[behind]])
        if kind in (Kind.NAME, Kind.KEYWORD):
            return cls(tokens, offset, tokens.text[start:offset], start, behind, behind + 1)
        if kind == Kind.TEXT or (
            kind in (Kind.COMMENT, Kind.STRING, Kind.NUMBER)
            and (offset < end or _goes_on(tokens.text[start:end], tokens.language))
        ):
            return None
        following = behind + (offset == end)
        return cls(tokens, offset, "", offset, following, following)

    @property
    def word_end(self) -> int:
        """Where the word ends that the cursor stands in, in characters; ``offset`` if in none."""
        return self.tokens.span(self.piece)[1] if self.prefix else self.offset

    @property
    def left(self) -> Int32Array:
        """Words before the name, int32 ``[n]``; white space and comments left out."""
        return self.tokens.code(0, self.piece)

    @property
    def right(self) -> Int32Array:
        """Words behind the name, int32 ``[n]``."""
        return self.tokens.code(self.next_piece, len(self.tokens.numbers))


def _goes_on(piece: str, language: str) -> bool:
    """Whether a letter typed at the end of a piece would belong to it."""
    lexicon = LANGUAGES[language].lexicon
    if lexicon.is_before_expression(piece):
        return False
    found = lexicon.pieces.match(piece + "x")
    if found is None or found.end() < len(piece):  # a part of a literal, or a regular expression
        return piece[-1] not in "\"'`"
    return found.end() > len(piece)
