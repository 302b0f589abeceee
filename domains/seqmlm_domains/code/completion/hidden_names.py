"""Names of whole texts, hidden one at a time, to learn from and to be judged by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.completion.mixture import Sides
from seqmlm_domains.code.languages.lexicon import Kind
from seqmlm_domains.code.source_tokens import SourceTokens


@dataclass(frozen=True, slots=True, eq=False)
class HiddenName:
    """One occurrence of a name.

    Args:
        tokens: of the whole text.
        piece: which of them it is.
    """

    tokens: SourceTokens
    piece: int

    @property
    def name(self) -> str:
        """What is hidden."""
        return self.tokens.words[int(self.tokens.numbers[self.piece])]

    def cursor(self, sides: Sides) -> Cursor:
        """Return the place without the name: between what is around it, or at the text's end."""
        start = self.tokens.span(self.piece)[0]
        following = self.piece + 1 if sides == "both" else len(self.tokens.numbers)
        return Cursor(self.tokens, start, "", start, self.piece, following)


def draw_hidden_names(
    files: Iterable[SourceTokens], count: int, *, generator: np.random.Generator
) -> list[HiddenName]:
    """Return ``count`` occurrences of names, uniformly drawn of all, in order; all if fewer."""
    occurrences = [
        HiddenName(tokens, piece)
        for tokens in files
        for piece in np.flatnonzero(tokens.kinds == Kind.NAME).tolist()
    ]
    chosen = generator.permutation(len(occurrences))[:count]
    return [occurrences[number] for number in np.sort(chosen).tolist()]
