"""The types of some identifiers, each type named once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

NO_TYPE: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class DeclaredTypes:
    """The declared types of some identifiers.

    Args:
        numbers: int32 ``[identifiers]``, into ``names``; :data:`NO_TYPE` where none is declared.
        names: simple names without generics, such as ``List``, ``int`` or ``char[]``.
    """

    numbers: npt.NDArray[np.int32]
    names: tuple[str, ...]

    @classmethod
    def of(cls, types: Sequence[bytes | None]) -> DeclaredTypes:
        """Number the types of identifiers in the order in which they occur."""
        number_of: dict[bytes | None, int] = {None: NO_TYPE}
        for name in types:
            number_of.setdefault(name, len(number_of) - 1)
        numbers = np.fromiter((number_of[name] for name in types), np.int32, len(types))
        return cls(numbers, tuple(name.decode() for name in number_of if name is not None))

    def name_at(self, place: int) -> str | None:
        """Return the type of an identifier; None where none is declared."""
        number = int(self.numbers[place])
        return None if number == NO_TYPE else self.names[number]

    def where_any(self, names: Collection[str]) -> npt.NDArray[np.bool_]:
        """Say which identifiers are of one of some types, bool ``[identifiers]``."""
        return np.isin(self.numbers, [n for n, name in enumerate(self.names) if name in names])

    def where(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> DeclaredTypes:
        """Return the types of some of the identifiers, chosen as numpy indexes arrays."""
        return DeclaredTypes(self.numbers[chosen], self.names)

    def renamed(self, name_of: Callable[[str], str | None]) -> DeclaredTypes:
        """Return the same types under other names; those without one are not declared."""
        names = [name_of(name) for name in self.names]
        number_of: dict[str | None, int] = {None: NO_TYPE}
        for name in names:
            number_of.setdefault(name, len(number_of) - 1)
        numbers = np.array([*(number_of[name] for name in names), NO_TYPE], np.int32)
        return DeclaredTypes(numbers[self.numbers], tuple(filter(None, number_of)))

    def part(self, start: int, end: int) -> DeclaredTypes:
        """Return the types of a range of the identifiers."""
        return DeclaredTypes(self.numbers[start:end], self.names)
