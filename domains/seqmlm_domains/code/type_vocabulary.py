"""Numbers the declared types that are frequent in the training data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm.errors import ConfigError
from seqmlm_domains.code.declared_types import NO_TYPE, DeclaredTypes

NONE: Final = "<none>"
UNKNOWN: Final = "<unknown>"
SPECIAL_TYPES: Final = (NONE, UNKNOWN)
"""No type is declared; one that is not among the frequent ones. No name of a type has signs."""

LARGEST_TYPE_VOCABULARY: Final = 2**20


class TypeVocabulary:
    """The types that a model tells apart.

    Args:
        names: numbered from 0; begins with :data:`SPECIAL_TYPES`.

    Raises:
        ValueError: it begins otherwise, or holds a name twice.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._number_of = {name: number for number, name in enumerate(self.names)}
        if self.names[: len(SPECIAL_TYPES)] != SPECIAL_TYPES:
            raise ValueError("it is no vocabulary of types")
        if len(self._number_of) != len(self.names):
            raise ValueError("it holds a type twice")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def learn(cls, counts: Counter[str], *, size: int) -> TypeVocabulary:
        """Take the most frequent types; equal counts give equal vocabularies.

        Args:
            counts: of the identifiers that a type is declared for.
            size: most types, those of :data:`SPECIAL_TYPES` included.
        """
        order = sorted(counts, key=lambda name: (-counts[name], name))
        return cls([*SPECIAL_TYPES, *order[: size - len(SPECIAL_TYPES)]])

    def numbers_of(self, types: DeclaredTypes) -> npt.NDArray[np.int32]:
        """Return the number of each identifier's type, int32 ``[identifiers]``."""
        unknown, none = self._number_of[UNKNOWN], self._number_of[NONE]
        numbers = [self._number_of.get(name, unknown) for name in types.names]
        assert NO_TYPE == -1, "the last entry is that of no type"
        return np.array([*numbers, none], np.int32)[types.numbers]


def check_type_vocabulary_size(size: int) -> None:
    """Refuse a size that leaves no room or is too large.

    Raises:
        ConfigError: names the option.
    """
    least = len(SPECIAL_TYPES)
    if type(size) is not int or not least <= size <= LARGEST_TYPE_VOCABULARY:
        raise ConfigError(
            f"type_vocabulary_size = {size!r}: it is a whole number from {least} (no type and "
            f"unknown types) to {LARGEST_TYPE_VOCABULARY:,}."
        )


def count_types(counts: Counter[str], types: DeclaredTypes) -> None:
    """Add the types of some identifiers, in place."""
    found = np.bincount(types.numbers[types.numbers >= 0], minlength=len(types.names))
    for name, count in zip(types.names, found.tolist(), strict=True):
        if count:
            counts[name] += count
