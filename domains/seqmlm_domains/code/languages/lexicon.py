r"""What a language's text is made of, for cutting it into tokens without a parser.

A pattern takes one piece at a time from where the last one ended, and looks no further back than
a word: where two texts agree, so do their pieces, however broken the code. All patterns
take linear time; what is never closed ends with its line or with the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, unique
from functools import cached_property
from typing import Final

ORDINARY_STRING: Final = r'"(?:[^"\\\n]|\\.)*+"?|' + r"'(?:[^'\\\n]|\\.)*+'?"
"""Between quotation marks, on one line."""

QUOTE: Final = r"(?:\"\"\"|'''|[\"'`])"
"""What begins and ends a literal, but for letters before it."""

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
    TEXT = 7
    """Between the tags of an element."""


@dataclass(frozen=True)
class Hole:
    """Where an expression stands in a literal, as patterns; one may be open to the line's end.

    Args:
        opening: before the expression.
        unit: of what the expression is a repetition: a sign or what is bracketed or quoted.
        closing: characters, one of which ends the expression.
    """

    opening: str
    unit: str
    closing: str

    @cached_property
    def openings(self) -> re.Pattern[str]:
        """Matches at the end of the part of a literal that stands before an expression."""
        return re.compile(rf"(?:{self.opening})\Z")

    @cached_property
    def holes(self) -> re.Pattern[str]:
        """What is before an expression as the first group, and the expression as one of two."""
        closed = rf"((?:{self.unit})*+)(?=[{self.closing}])"
        still_open = rf"((?:(?!\n|{QUOTE}?\Z)(?:{self.unit}|.))*+)"
        return re.compile(rf"({self.opening})(?:{closed}|{still_open})")


@dataclass(frozen=True)
class Place:
    """Where a word that may be a keyword is one, or is a name, by the code around it.

    Args:
        is_name: what it is there.
        words: of which words this holds.
        before: words and signs, one of which stands right before it; any if absent.
        behind: those right behind it.
    """

    is_name: bool
    words: frozenset[str]
    before: frozenset[str] | None = None
    behind: frozenset[str] | None = None


@dataclass(frozen=True)
class Lexicon:
    """The tokens of a language.

    Args:
        comment: pattern of a comment, closed or not.
        string: pattern of a literal, closed or not.
        word: pattern of a name or keyword.
        sign: pattern of signs of several characters; single ones need none.
        keywords: words that are no names, but for ``places``.
        soft_keywords: words that are names unless what they govern follows: another word, a literal
            or a brace.
        joining_words: keywords that can follow a name, so that nothing governs them.
        places: exceptions for both; of several that fit, the first one decides.
        interpolated: pattern of the literals that may hold expressions.
        hole: of an expression in such a literal.
        find_texts: returns where there is text that is neither code nor a literal, in order, first
            character and one past the last.
    """

    comment: str
    string: str
    word: str
    sign: str
    keywords: frozenset[str]
    soft_keywords: frozenset[str] = frozenset()
    joining_words: frozenset[str] = frozenset()
    places: tuple[Place, ...] = ()
    interpolated: str | None = None
    hole: Hole | None = None
    find_texts: Callable[[str], Sequence[tuple[int, int]]] | None = None

    @cached_property
    def pieces(self) -> re.Pattern[str]:
        """Takes the next piece; every character is in one."""
        return re.compile("|".join(self._alternatives.values()), re.DOTALL)

    def kind_of(self, piece: str) -> Kind:
        """Tell what a piece is; a word that its place makes a name is a keyword here."""
        found = self._grouped.fullmatch(piece)
        if found is None:
            return Kind.STRING  # a part of a literal, which is none by itself
        kind = Kind[found.lastgroup or ""]
        return Kind.KEYWORD if kind == Kind.NAME and piece in self._may_be_keywords else kind

    def parts_of(self, piece: str) -> list[str]:
        """Return the pieces of a literal and of the expressions in it; mostly itself alone."""
        if self.hole is None or not self._interpolated.match(piece):
            return [piece]
        parts: list[str] = []
        start = 0
        for hole in self.hole.holes.finditer(piece):
            parts.append(piece[start : hole.end(1)])
            for part in self.pieces.findall(piece, hole.end(1), hole.end()):
                parts += self.parts_of(part)
            start = hole.end()
        return [*parts, *filter(None, [piece[start:]])] if parts else [piece]

    def is_before_expression(self, piece: str) -> bool:
        """Tell whether a piece is the part of a literal that an expression follows."""
        if self.hole is None or not self.hole.openings.search(piece):
            return False
        return bool(self._interpolated.match(piece)) or self.is_behind_expression(piece)

    def is_behind_expression(self, piece: str) -> bool:
        """Tell whether a piece, if it is of a literal, is the part behind an expression."""
        return self.hole is not None and piece[0] in self.hole.closing

    @cached_property
    def _may_be_keywords(self) -> frozenset[str]:
        return self.keywords | self.soft_keywords

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
