"""The names that may be proposed for a text, each with a number: the project's, then its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.languages.lexicon import Kind
from seqmlm_domains.code.source_tokens import Int32Array, SourceTokens


@dataclass(frozen=True, eq=False)
class KnownNames:
    """Names of a project and of one text.

    Args:
        table: of the project, which numbers its names.
        own: names of the text that the project does not have; they are numbered on.
        of_words: int32 ``[words]``, the number of the name that each word of the text is, or -1.
    """

    table: ContextTable
    own: tuple[str, ...]
    of_words: Int32Array

    @classmethod
    def of(cls, tokens: SourceTokens, table: ContextTable) -> KnownNames:
        """Number the names of a text and of its project."""
        own: list[str] = []
        of_words = np.full(len(tokens.words), -1, np.int32)
        for place in np.flatnonzero(tokens.word_kinds == Kind.NAME).tolist():
            number = table.number_of.get(tokens.words[place])
            if number is None:
                number = len(table.names) + len(own)
                own.append(tokens.words[place])
            of_words[place] = number
        return cls(table, tuple(own), of_words)

    def __len__(self) -> int:
        return len(self.table.names) + len(self.own)

    def __getitem__(self, number: int) -> str:
        project = self.table.names
        return project[number] if number < len(project) else self.own[number - len(project)]

    def beginning_with(self, prefix: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the names that begin so, letter case as it is, ``[n]``."""
        own = self._own_numbers(name.startswith(prefix) for name in self.own)
        return np.concatenate([self.table.beginning_with(prefix), own])

    def beginning_in_any_case(self, prefix: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the names that begin so in any letter case, ``[n]``."""
        lower = prefix.lower()
        own = self._own_numbers(name.lower().startswith(lower) for name in self.own)
        return np.concatenate([self.table.beginning_in_any_case(prefix), own])

    def _own_numbers(self, is_chosen: Iterable[bool]) -> npt.NDArray[np.int64]:
        chosen = np.fromiter(is_chosen, np.bool_, len(self.own))
        return np.flatnonzero(chosen) + len(self.table.names)
