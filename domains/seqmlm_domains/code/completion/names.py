"""The names that may be proposed for a text, each with a number.

Those of the project come first, then those of the language, then the text's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.languages.lexicon import Kind
from seqmlm_domains.code.source_tokens import Int32Array, SourceTokens


def built_in_names(table: ContextTable, language: str) -> list[str]:
    """Return the names that are built into a language and that a project of it does not have."""
    return [name for name in LANGUAGES[language].built_in.all if name not in table.number_of]


@dataclass(frozen=True, eq=False)
class KnownNames:
    """Names of a project, of its language, and of one text.

    Args:
        table: of the project, which numbers its names.
        language: of the text.
        own: names that the project does not have; they are numbered on.
        of_language: how many of these are built into the language; the others are of the text.
        of_words: int32 ``[words]``, the number of the name that each word of the text is, or -1.
    """

    table: ContextTable
    language: str
    own: tuple[str, ...]
    of_language: int
    of_words: Int32Array

    @classmethod
    def of(cls, tokens: SourceTokens, table: ContextTable) -> KnownNames:
        """Number the names of a text, of its language and of its project."""
        built_in = built_in_names(table, tokens.language)
        own = {name: len(table.names) + number for number, name in enumerate(built_in)}
        of_words = np.full(len(tokens.words), -1, np.int32)
        for place in np.flatnonzero(tokens.word_kinds == Kind.NAME).tolist():
            name = tokens.words[place]
            number = table.number_of.get(name)
            if number is None:
                number = own.setdefault(name, len(table.names) + len(own))
            of_words[place] = number
        return cls(table, tokens.language, tuple(own), len(built_in), of_words)

    @cached_property
    def _number_of_own(self) -> dict[str, int]:
        return {name: len(self.table.names) + number for number, name in enumerate(self.own)}

    @cached_property
    def is_capitalised(self) -> npt.NDArray[np.bool_]:
        """Whether each name begins with a capital, bool ``[names]``."""
        own = np.array([name[0].isupper() for name in self.own], np.bool_)
        return np.concatenate([self.table.is_capitalised, own])

    def numbers_of(self, chosen: Iterable[str]) -> npt.NDArray[np.int64]:
        """Return the numbers of those of some names that are known, int64 ``[n]``."""
        table, own = self.table.number_of, self._number_of_own
        found = (table.get(name, own.get(name)) for name in chosen)
        return np.array([number for number in found if number is not None], np.int64)

    @property
    def built_in(self) -> tuple[str, ...]:
        """Those of ``own`` that are built into the language; they come first."""
        return self.own[: self.of_language]

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
