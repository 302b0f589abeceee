"""Selectors that go by the type of a unit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import EncodingBatch, IntArray
from seqmlm.errors import ConfigError, suggestion
from seqmlm.masking.selectors import (
    BatchSelector,
    Selection,
    draw,
    positions_of_units,
    uniform_units,
)
from seqmlm.randomness import Streams

if TYPE_CHECKING:
    from seqmlm.domain import Domain


class _OfTypes(BatchSelector):
    """A selector that is told some types of units."""

    _name: ClassVar[str]

    def __init__(self, types: Sequence[int | str]) -> None:
        is_list = isinstance(types, Sequence) and not isinstance(types, str) and len(types) > 0
        if not is_list or not all(
            isinstance(each, str) or (type(each) is int and each >= 0) for each in types
        ):
            raise ConfigError(
                f"{self._name} selector: types = {types!r}; it is a list of types, by their names "
                "or numbers, such as [0, 2]."
            )
        self._given = types
        numbers = [each for each in types if not isinstance(each, str)]
        self._numbers = np.array(numbers, np.int32) if len(numbers) == len(types) else None

    def fit(
        self, domain: Domain, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]
    ) -> None:
        """Find the numbers of types that are given by name; see :class:`Fitted`.

        Raises:
            ConfigError: the domain does not have one of the types; names those it has.
        """
        names = list(domain.unit_types)
        if not names:
            raise _lacks_types(self._name, f"domain {domain.registered_name!r}")
        known = {name: number for number, name in enumerate(names)}
        for each in self._given:
            if each not in known and each not in known.values():
                raise ConfigError(
                    f"{self._name} selector: domain {domain.registered_name!r} has no type "
                    f"{each!r}.{suggestion(str(each), names)} It has: "
                    f"{', '.join(f'{number} {name}' for name, number in known.items())}."
                )
        self._numbers = np.array(
            [known[each] if isinstance(each, str) else each for each in self._given], np.int32
        )

    def _types_of(self, batch: EncodingBatch) -> tuple[IntArray, npt.NDArray[np.bool_]]:
        """The type of each unit of a batch, and whether it is one of those asked for."""
        if batch.unit_types is None:
            raise _lacks_types(self._name, "this domain")
        if self._numbers is None:
            raise ConfigError(
                f"{self._name} selector: types = {self._given!r}: call Objective.fit first, which "
                "finds their numbers."
            )
        return batch.unit_types, np.isin(batch.unit_types, self._numbers)


class TypedSelector(_OfTypes):
    """Whole units of some types only, uniformly without replacement.

    The budget stays a share of all maskable tokens or units; if the chosen types have fewer, all
    of them are taken. Otherwise it becomes a number of units, rounded at random, so that each unit
    of these types has the same chance, short or long, and the expected amount is the budget.

    Args:
        types: at least one, by its name or number in :attr:`Domain.unit_types`.

    Raises:
        ConfigError: no type, or one that is neither a name nor a whole number of 0 or more.
    """

    _name = "typed"

    def select_in_batch(
        self,
        batch: EncodingBatch,
        costs: npt.NDArray[np.int64],
        budgets: npt.NDArray[np.int64],
        streams: Streams,
    ) -> Selection:
        """See :meth:`BatchSelector.select_in_batch`.

        Raises:
            ConfigError: the units have no types, or :meth:`fit` has not found their numbers yet.
        """
        _, is_asked = self._types_of(batch)
        return uniform_units(batch, np.flatnonzero(is_asked), costs, budgets, streams)


class GroupSelector(_OfTypes):
    """All units of one type together, such as everything that names the tail of a triple.

    Among the given types that the sequence has, one is drawn uniformly. The rate plays no part:
    what is hidden is the group, whatever its size.

    Args:
        types: at least one, by its name or number in :attr:`Domain.unit_types`.

    Raises:
        ConfigError: no type, or one that is neither a name nor a whole number of 0 or more.
    """

    _name = "group"
    rate_tolerance = math.inf

    def select_in_batch(
        self,
        batch: EncodingBatch,
        costs: npt.NDArray[np.int64],
        budgets: npt.NDArray[np.int64],
        streams: Streams,
    ) -> Selection:
        """See :meth:`BatchSelector.select_in_batch`; costs and budgets play no part.

        Raises:
            ConfigError: the units have no types, or :meth:`fit` has not found their numbers yet.
        """
        types, is_asked = self._types_of(batch)
        num_types = int(types.max(initial=-1)) + 1
        type_in_batch = batch.encoding_of_unit * num_types + types
        is_drawn = np.zeros(len(batch) * num_types, np.bool_)
        present = np.unique(type_in_batch[is_asked])
        is_drawn[present] = draw(present // num_types, np.ones(len(batch), np.int64), streams)
        return positions_of_units(
            batch, np.where(is_drawn[type_in_batch], batch.encoding_of_unit, -1)
        )


def _lacks_types(selector: str, domain: str) -> ConfigError:
    return ConfigError(
        f"{selector} selector: {domain} gives its units no types. Choose selector 'unit'."
    )
