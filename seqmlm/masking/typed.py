"""Selectors that go by the type of a unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import EncodingBatch, IntArray
from seqmlm.errors import ConfigError
from seqmlm.masking.selectors import (
    BatchSelector,
    Selection,
    draw,
    positions_of_units,
    uniform_units,
)
from seqmlm.randomness import Streams


class TypedSelector(BatchSelector):
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

    def select_in_batch(
        self,
        batch: EncodingBatch,
        costs: npt.NDArray[np.int64],
        budgets: npt.NDArray[np.int64],
        streams: Streams,
    ) -> Selection:
        """See :meth:`BatchSelector.select_in_batch`.

        Raises:
            ConfigError: the domain gives its units no types.
        """
        fitting = np.flatnonzero(np.isin(_types_of(batch, "typed"), self._types))
        return uniform_units(batch, fitting, costs, budgets, streams)


class GroupSelector(BatchSelector):
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

    def select_in_batch(
        self,
        batch: EncodingBatch,
        costs: npt.NDArray[np.int64],
        budgets: npt.NDArray[np.int64],
        streams: Streams,
    ) -> Selection:
        """See :meth:`BatchSelector.select_in_batch`; costs and budgets play no part.

        Raises:
            ConfigError: the domain gives its units no types.
        """
        types = _types_of(batch, "group")
        num_types = int(types.max(initial=-1)) + 1
        type_in_batch = batch.encoding_of_unit * num_types + types
        is_drawn = np.zeros(len(batch) * num_types, np.bool_)
        present = np.unique(type_in_batch[np.isin(types, self._types)])
        is_drawn[present] = draw(present // num_types, np.ones(len(batch), np.int64), streams)
        return positions_of_units(
            batch, np.where(is_drawn[type_in_batch], batch.encoding_of_unit, -1)
        )


def _checked(types: Sequence[int], selector: str) -> IntArray:
    if not types or not all(type(number) is int and number >= 0 for number in types):
        raise ConfigError(
            f"{selector} selector: types = {types!r}; it is a list of whole numbers of 0 or more, "
            "such as [0, 2]."
        )
    return np.array(types, np.int32)


def _types_of(batch: EncodingBatch, selector: str) -> IntArray:
    if batch.unit_types is None:
        raise ConfigError(
            f"{selector} selector: this domain gives its units no types. Choose selector 'unit'."
        )
    return batch.unit_types
