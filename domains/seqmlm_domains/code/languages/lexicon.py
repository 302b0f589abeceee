r"""What a language's text is made of, for cutting it into tokens without a parser.

A pattern takes one piece at a time from where the last one ended, and looks no further back than
two characters: where two texts agree, so do their pieces, however broken the code. All patterns
take linear time; what is never closed ends with its line or with the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, unique
from functools import cached_property
from typing import Final

ORDINARY_STRING: Final = r'"(?:[^"\\\n]|\\.)*+"?|' + r"'(?:[^'\\\n]|\\.)*+'?"
"""Between quotation marks, on one line."""

C_COMMENT: Final = r"//[^\n]*|/\*(?:[^*]|\*(?!/))*+(?:\*/)?"
NUMBER: Final = r"\.?\d(?:[\w.]|(?<=[eEpP])[+-])*"


@unique
class Kind(IntEnum):
    """What a piece of source text is."""

    SPACE = 0
    COMMENT = 1
    STRING = 2
    """A literal, or the part of one between interpolated expressions."""
    NUMBER = 3
    NAME = 4
    KEYWORD = 5
    SIGN = 6


@dataclass(frozen=True)
class Lexicon:
    """The tokens of a language.

    Args:
        comment: pattern of a comment, closed or not.
        string: pattern of a literal, closed or not.
        word: pattern of a name or keyword.
        sign: pattern of signs of several characters; single ones need none.
        keywords: words that are no names anywhere.
        interpolated: pattern of the literals that may hold expressions.
        hole: what is before an expression in such a literal, the expression, and what ends it, as
            three groups.
    """

    comment: str
    string: str
    word: str
    sign: str
    keywords: frozenset[str]
    interpolated: str | None = None
    hole: str | None = None

    @cached_property
    def pieces(self) -> re.Pattern[str]:
        """Takes the next piece; every character is in one."""
        return re.compile("|".join(self._alternatives.values()), re.DOTALL)

    def kind_of(self, piece: str) -> Kind:
        """Tell what a piece is."""
        found = self._grouped.fullmatch(piece)
        if found is None:
            return Kind.STRING  # a part of a literal, which is none by itself
        kind = Kind[found.lastgroup or ""]
        return Kind.KEYWORD if kind == Kind.NAME and piece in self.keywords else kind

    def parts_of(self, piece: str) -> list[str]:
        """Return the pieces of a literal and of the expressions in it; mostly itself alone."""
        if self._holes is None or not self._interpolated.match(piece):
            return [piece]
        parts: list[str] = []
        start = end = 0
        for hole in self._holes.finditer(piece):
            end = hole.end(1)
            parts += [piece[start:end], *self.pieces.findall(hole[2])]
            start = hole.end(2)
        return [*parts, piece[start:]] if parts else [piece]

    @cached_property
    def _alternatives(self) -> dict[Kind, str]:
        return {
            Kind.SPACE: r"\s+",
            Kind.COMMENT: self.comment,
            Kind.STRING: self.string,
            Kind.NUMBER: NUMBER,
            Kind.NAME: self.word,
            Kind.SIGN: f"{self.sign}|.",
        }

    @cached_property
    def _grouped(self) -> re.Pattern[str]:
        groups = [f"(?P<{kind.name}>{pattern})" for kind, pattern in self._alternatives.items()]
        return re.compile("|".join(groups), re.DOTALL)

    @cached_property
    def _interpolated(self) -> re.Pattern[str]:
        return re.compile(self.interpolated or r"(?!)")

    @cached_property
    def _holes(self) -> re.Pattern[str] | None:
        return None if self.hole is None else re.compile(self.hole)
