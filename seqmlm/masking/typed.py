"""Selectors that go by the type of a unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import Encoding, IntArray
from seqmlm.errors import ConfigError
from seqmlm.masking.selectors import Selection, positions_of_units, uniform_units


class TypedSelector:
    """Whole units of some types only, uniformly without replacement.

    The budget stays a share of all maskable tokens or units; if the chosen types have fewer, all
    of them are taken. Otherwise it becomes a number of units, rounded at random, so that each unit
    of these types has the same chance, short or long, and the expected amount is the budget.

    Args:
        types: the domain's numbers of the types, at least one.

    Raises:
        ConfigError: no type, or one that is no whole number of 0 or more.
    """

    def __init__(self, types: Sequence[int]) -> None:
        self._types = _checked(types, "typed")

    def select(
        self,
        encoding: Encoding,
        costs: npt.NDArray[np.int64],
        budget: int,
        generator: np.random.Generator,
    ) -> Selection:
        """See :meth:`Selector.select`.

        Raises:
            ConfigError: the domain gives its units no types.
        """
        fitting = np.flatnonzero(np.isin(_types_of(encoding, "typed"), self._types))
        return uniform_units(encoding, fitting, costs, budget, generator)


class GroupSelector:
    """All units of one type together, such as everything that names the tail of a triple.

    Among the given types that the sequence has, one is drawn uniformly. The rate plays no part:
    what is hidden is the group, whatever its size.

    Args:
        types: the domain's numbers of the types, at least one.

    Raises:
        ConfigError: no type, or one that is no whole number of 0 or more.
    """

    def __init__(self, types: Sequence[int]) -> None:
        self._types = _checked(types, "group")

    def select(
        self,
        encoding: Encoding,
        costs: npt.NDArray[np.int64],
        budget: int,
        generator: np.random.Generator,
    ) -> Selection:
        """See :meth:`Selector.select`; ``costs`` and ``budget`` play no part.

        Raises:
            ConfigError: the domain gives its units no types.
        """
        types = _types_of(encoding, "group")
        present = np.intersect1d(types, self._types)
        if not len(present):
            return positions_of_units(encoding, np.full(len(types), -1))
        return positions_of_units(encoding, np.where(types == generator.choice(present), 0, -1))


def _checked(types: Sequence[int], selector: str) -> IntArray:
    if not types or not all(type(number) is int and number >= 0 for number in types):
        raise ConfigError(
            f"{selector} selector: types = {types!r}; it is a list of whole numbers of 0 or more, "
            "such as [0, 2]."
        )
    return np.array(types, np.int32)


def _types_of(encoding: Encoding, selector: str) -> IntArray:
    if encoding.unit_types is None:
        raise ConfigError(
            f"{selector} selector: this domain gives its units no types. Choose selector 'unit'."
        )
    return encoding.unit_types
