"""Selectors choose which tokens a sample hides. They see units, never domains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import Encoding, IntArray
from seqmlm.errors import ConfigError

LONGEST_SPAN = 100_000


@dataclass(frozen=True, slots=True)
class Selection:
    """Token positions chosen in one encoding.

    Args:
        positions: int32 ``[m]``, increasing.
        groups: int32 ``[m]``; positions of one group were chosen together, so a corruptor can
            treat them alike.
    """

    positions: IntArray
    groups: IntArray


class Selector(Protocol):
    """Chooses positions whose costs add up to a budget."""

    def select(
        self,
        encoding: Encoding,
        costs: npt.NDArray[np.int64],
        budget: int,
        generator: np.random.Generator,
    ) -> Selection:
        """Choose units until their costs reach the budget.

        Args:
            encoding: the sequence; tokens of unit -1 are never chosen.
            costs: int64 ``[units]``; what each unit takes from the budget.
            budget: how much to choose; fewer only if the sequence has fewer.
            generator: the only source of randomness.
        """
        ...


class TokenSelector:
    """Every maskable token is chosen alone, uniformly without replacement (BERT, RoBERTa)."""

    def select(
        self,
        encoding: Encoding,
        costs: npt.NDArray[np.int64],
        budget: int,
        generator: np.random.Generator,
    ) -> Selection:
        """See :meth:`Selector.select`; ``costs`` play no part, a token costs 1."""
        maskable = np.flatnonzero(encoding.unit_ids >= 0)
        chosen = generator.choice(
            len(maskable), min(budget, len(maskable)), replace=False, shuffle=False
        )
        positions = maskable[np.sort(chosen)].astype(np.int32)
        return Selection(positions, positions)


class UnitSelector:
    """Whole units, uniformly without replacement (whole-word, whole-identifier, whole-entity).

    The unit that would exceed the budget is taken with probability left / cost, which keeps the
    expected amount exact.
    """

    def select(
        self,
        encoding: Encoding,
        costs: npt.NDArray[np.int64],
        budget: int,
        generator: np.random.Generator,
    ) -> Selection:
        """See :meth:`Selector.select`."""
        order = generator.permutation(len(costs))
        spent = np.cumsum(costs[order])
        count = int(np.searchsorted(spent, budget, side="right"))
        if count < len(order):
            left = budget - (int(spent[count - 1]) if count else 0)
            count += bool(generator.random() * costs[order[count]] < left)
        chosen = np.zeros(len(costs), np.bool_)
        chosen[order[:count]] = True
        return _positions_of_units(encoding, np.where(chosen, np.arange(len(costs)), -1))


class SpanSelector:
    """Runs of adjacent units with geometric lengths (SpanBERT, arXiv 1907.10529, section 3.1).

    A length is drawn first, then a start among those where a run of that length is still free;
    so the lengths keep their distribution as far as the sequence has room. The span that would
    exceed the budget is taken with probability left / cost. Deviation: lengths count units, not
    words, and spans never cross an unmaskable token.

    Args:
        stop_probability: of the geometric distribution, in (0, 1].
        max_units: longest span, at most 100,000; longer draws are repeated.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(self, stop_probability: float = 0.2, max_units: int = 10) -> None:
        if not 0 < stop_probability <= 1:
            raise ConfigError(
                f"span selector: stop_probability = {stop_probability} not in (0, 1]."
            )
        if not isinstance(max_units, int) or not 1 <= max_units <= LONGEST_SPAN:
            raise ConfigError(
                f"span selector: max_units = {max_units!r}; it is a whole number from 1 to "
                f"{LONGEST_SPAN:,}."
            )
        lengths = np.arange(1, max_units + 1)
        weights = stop_probability * (1 - stop_probability) ** (lengths - 1)
        self._cumulative = np.cumsum(weights / weights.sum())

    def select(
        self,
        encoding: Encoding,
        costs: npt.NDArray[np.int64],
        budget: int,
        generator: np.random.Generator,
    ) -> Selection:
        """See :meth:`Selector.select`."""
        runs = _adjacent_runs(encoding)
        span_of_unit = np.full(len(costs), -1)
        spans = 0
        while budget > 0 and (span_of_unit < 0).any():
            length = int(np.searchsorted(self._cumulative, generator.random(), side="right")) + 1
            starts = _free_starts(span_of_unit < 0, runs, length)
            while not len(starts):
                length -= 1
                starts = _free_starts(span_of_unit < 0, runs, length)
            start = int(starts[generator.integers(len(starts))])
            cost = int(costs[start : start + length].sum())
            if cost > budget and generator.random() * cost >= budget:
                break
            span_of_unit[start : start + length] = spans
            spans += 1
            budget -= cost
        return _positions_of_units(encoding, span_of_unit)


def _positions_of_units(encoding: Encoding, group_of_unit: npt.NDArray[np.int64]) -> Selection:
    """Positions of all tokens whose unit has a group (not -1), with that group."""
    group_of_token = np.append(group_of_unit, -1)[encoding.unit_ids]
    positions = np.flatnonzero(group_of_token >= 0).astype(np.int32)
    return Selection(positions, group_of_token[positions].astype(np.int32))


def _adjacent_runs(encoding: Encoding) -> npt.NDArray[np.int64]:
    """For every unit the number of the unbroken run of units that it belongs to."""
    maskable = np.flatnonzero(encoding.unit_ids >= 0)
    units = encoding.unit_ids[maskable]
    first_tokens = maskable[np.diff(units, prepend=-1) != 0]
    last_tokens = maskable[np.diff(units, append=-1) != 0]
    gaps = first_tokens[1:] != last_tokens[:-1] + 1
    return np.cumsum(np.concatenate([[False], gaps]))[: len(first_tokens)]


def _free_starts(
    free: npt.NDArray[np.bool_], runs: npt.NDArray[np.int64], length: int
) -> npt.NDArray[np.int64]:
    """Units where a free span of the given length may start."""
    if length > len(free):
        return np.empty(0, np.int64)
    taken = np.concatenate([[0], np.cumsum(~free)])
    is_free = taken[length:] == taken[:-length]
    return np.flatnonzero(is_free & (runs[length - 1 :] == runs[: len(runs) - length + 1]))
