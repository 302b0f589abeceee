"""A selector that hides a name wherever it stands."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import Encoding
from seqmlm.masking.selectors import Selection, positions_of_units


class OccurrencesSelector:
    """All units of the same tokens together, such as every occurrence of a name in a window.

    What is hidden cannot be copied from elsewhere in the sequence, so it must follow from use
    (the objective of deobfuscation, DOBF, arXiv 2102.07492, hides all names so). The different
    units are drawn uniformly, however often each occurs. The one that would exceed the budget is
    taken with probability left / cost, which keeps the expected amount exact.
    """

    chooses_whole_units = True
    rate_tolerance = 0.0

    def select(
        self,
        encoding: Encoding,
        costs: npt.NDArray[np.int64],
        budget: int,
        generator: np.random.Generator,
    ) -> Selection:
        """See :meth:`Selector.select`; the occurrences of a unit are one group."""
        name_of_unit = _names(encoding)
        total = np.bincount(name_of_unit, weights=costs).astype(np.int64)
        order = generator.permutation(len(total))
        spent = np.cumsum(total[order])
        count = int(np.searchsorted(spent, budget, side="right"))
        if count < len(order):
            left = budget - (int(spent[count - 1]) if count else 0)
            count += bool(generator.random() * total[order[count]] < left)
        is_chosen = np.zeros(len(total), np.bool_)
        is_chosen[order[:count]] = True
        return positions_of_units(encoding, np.where(is_chosen[name_of_unit], name_of_unit, -1))


def _names(encoding: Encoding) -> npt.NDArray[np.int64]:
    """For every unit the number of its token sequence, int64 ``[units]``."""
    numbers: dict[tuple[int, ...], int] = {}
    tokens: list[list[int]] = [[] for _ in range(encoding.num_units)]
    for id, unit in zip(encoding.ids.tolist(), encoding.unit_ids.tolist(), strict=True):
        if unit >= 0:
            tokens[unit].append(id)
    named = (numbers.setdefault(tuple(own), len(numbers)) for own in tokens)
    return np.fromiter(named, np.int64, len(tokens))
