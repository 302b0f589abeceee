"""Selectors choose which tokens a sample hides. They see units, never domains."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import Encoding, IntArray
from seqmlm.errors import ConfigError

LONGEST_SPAN = 100_000
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Selection:
    """Token positions chosen in one encoding.

    Args:
        positions: int32 ``[m]``, increasing.
        groups: int32 ``[m]``; positions of one group were chosen together, so a corruptor can
            treat them alike.
        units: int32 ``[m]``, the unit of each; a policy fills it in for its corruptor.
    """

    positions: IntArray
    groups: IntArray
    units: IntArray | None = None


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
        return units_in_order(encoding, order, costs, budget, generator)


class RunSelector:
    """Runs of adjacent units whose lengths follow a given distribution.

    A length is drawn first, then a start among those where a run of that length is still free;
    so the lengths keep their distribution as far as the sequence has room: where no place is long
    enough, the length is shortened until one is. Runs are disjoint and never cross an unmaskable
    token or the border of a segment. The run that would exceed the budget is taken with
    probability left / cost, which keeps the expected amount exact.

    Args:
        chances: of 1, 2, 3, ... units; need not add up to 1.
    """

    def __init__(self, chances: npt.ArrayLike) -> None:
        weights = np.asarray(chances, np.float64)
        self._cumulative = np.cumsum(weights / weights.sum()).tolist()
        self._cumulative[-1] = 1.0  # rounding must not make room for a longer run

    def select(
        self,
        encoding: Encoding,
        costs: npt.NDArray[np.int64],
        budget: int,
        generator: np.random.Generator,
    ) -> Selection:
        """See :meth:`Selector.select`."""
        runs = _adjacent_runs(encoding).tolist()
        costs_before = [0, *np.cumsum(costs).tolist()]
        taken = bytearray(len(runs))
        run_of_unit = np.full(len(runs), -1)
        count, free = 0, len(runs)
        while budget > 0 and free:
            start, end = self._place(runs, taken, generator)
            cost = costs_before[end] - costs_before[start]
            if cost > budget and generator.random() * cost >= budget:
                break
            taken[start:end] = b"\1" * (end - start)
            run_of_unit[start:end] = count
            count += 1
            free -= end - start
            budget -= cost
        return positions_of_units(encoding, run_of_unit)

    def _place(
        self, runs: Sequence[int], taken: bytearray, generator: np.random.Generator
    ) -> tuple[int, int]:
        """First unit and end of a new run, uniform over the free places of a drawn length."""
        length = bisect_right(self._cumulative, generator.random()) + 1
        places = len(runs) - length + 1
        # Most places are free at usual rates: trying a few is ten times faster than listing them.
        for _ in range(_TRIES if places > 0 else 0):
            start = int(generator.random() * places)
            end = start + length
            if runs[start] == runs[end - 1] and 1 not in taken[start:end]:
                return start, end
        is_free = np.frombuffer(taken, np.uint8) == 0
        starts = _free_starts(is_free, np.asarray(runs), length)
        while not len(starts):
            length -= 1
            starts = _free_starts(is_free, np.asarray(runs), length)
        start = int(starts[generator.integers(len(starts))])
        return start, start + length


class SpanSelector(RunSelector):
    """Runs with geometric lengths (SpanBERT, arXiv 1907.10529, section 3.1).

    Deviation: lengths count units, not words, and spans never cross an unmaskable token.

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
        super().__init__(stop_probability * (1 - stop_probability) ** (lengths - 1))


class NgramSelector(RunSelector):
    """N-grams of units with given shares, by default those of MacBERT (arXiv 2004.13922).

    The paper leaves open how overlaps and the budget's end are handled; see
    :class:`RunSelector` for both.

    Args:
        p: shares of 1-grams, 2-grams, ... among the n-grams; they add up to 1.

    Raises:
        ConfigError: no share, a negative one, or they do not add up to 1.
    """

    def __init__(self, p: Sequence[float] = (0.4, 0.3, 0.2, 0.1)) -> None:
        shares = list(p)
        if not shares or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ConfigError(
                f"ngram selector: p = {shares}; shares of 1-grams, 2-grams, ... are 0 or more and "
                "add up to 1, such as [0.4, 0.3, 0.2, 0.1]."
            )
        super().__init__(shares)


class BlockSelector(RunSelector):
    """Single units and longer blocks, the factorisation units of UniLM-v2 (arXiv 2002.12804).

    A block has one unit with probability ``single``, else 2 to ``longest`` units, all equally
    likely. The pseudo-masked objective draws the order of the blocks.

    Args:
        single: share of blocks of one unit, in [0, 1].
        longest: units of the longest block, at least 2.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(self, single: float = 0.6, longest: int = 6) -> None:
        if not 0 <= single <= 1:
            raise ConfigError(f"block selector: single = {single} not in [0, 1].")
        if not isinstance(longest, int) or not 2 <= longest <= LONGEST_SPAN:
            raise ConfigError(
                f"block selector: longest = {longest!r}; it is a whole number from 2 to "
                f"{LONGEST_SPAN:,}."
            )
        longer = longest - 1
        super().__init__([single, *[(1 - single) / longer] * longer])


def units_in_order(
    encoding: Encoding,
    order: npt.NDArray[np.int64],
    costs: npt.NDArray[np.int64],
    budget: int,
    generator: np.random.Generator,
) -> Selection:
    """Choose whole units from the front of ``order`` until their costs reach the budget.

    The one that would exceed it is taken with probability left / cost.

    Args:
        encoding: the sequence.
        order: int64, unit numbers, each at most once.
        costs: int64 ``[units]``.
        budget: how much to choose.
        generator: decides on the last unit.
    """
    spent = np.cumsum(costs[order])
    count = int(np.searchsorted(spent, budget, side="right"))
    if count < len(order):
        left = budget - (int(spent[count - 1]) if count else 0)
        count += bool(generator.random() * costs[order[count]] < left)
    chosen = np.full(len(costs), -1)
    chosen[order[:count]] = order[:count]
    return positions_of_units(encoding, chosen)


def positions_of_units(encoding: Encoding, group_of_unit: npt.NDArray[np.int64]) -> Selection:
    """Select all tokens of the units that have a group; int64 ``[units]``, -1 for none."""
    groups = np.empty(len(group_of_unit) + 1, np.int32)
    groups[:-1], groups[-1] = group_of_unit, -1  # the last one is that of unit -1
    group_of_token = groups[encoding.unit_ids]
    positions = np.flatnonzero(group_of_token >= 0).astype(np.int32)
    return Selection(positions, group_of_token[positions])


def _adjacent_runs(encoding: Encoding) -> npt.NDArray[np.int64]:
    """For every unit the number of the unbroken run of units that it belongs to."""
    maskable = np.flatnonzero(encoding.unit_ids >= 0)
    units = encoding.unit_ids[maskable]
    first_tokens = maskable[np.diff(units, prepend=-1) != 0]
    last_tokens = maskable[np.diff(units, append=-1) != 0]
    gaps = first_tokens[1:] != last_tokens[:-1] + 1
    segments = encoding.segment_ids
    gaps |= segments[first_tokens[1:]] != segments[last_tokens[:-1]]
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
