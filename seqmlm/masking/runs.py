"""Runs of adjacent units: spans, n-grams and blocks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import EncodingBatch
from seqmlm.errors import ConfigError
from seqmlm.masking.selectors import (
    BatchSelector,
    Selection,
    number_of_units,
    positions_of_units,
)
from seqmlm.randomness import Streams

LONGEST_SPAN = 100_000
_TRIES = 8


class RunSelector(BatchSelector):
    """Runs of adjacent units whose lengths follow a given distribution.

    The budget becomes a number of units as in :class:`UnitSelector`. A length is drawn first, then
    a start among the places where a run of that length is free. Places are those of a ring, the end
    of the sequence joined to its start, so that the units at its ends are hidden as often as the
    others. A run is then cut into groups at the end of the sequence, at unmaskable tokens and at
    the border of a segment: no group crosses one. Where no place is long enough, as in a sequence
    shorter than the run, the length is reduced until one is. The run that would exceed the budget
    is taken with probability left / length, which keeps the expected amount exact.

    Cuts, missing room and the budget's end all make groups of short sequences shorter than the
    distribution says. For 1- to 4-grams of .40/.30/.20/.10 at a rate of 0.15, groups have
    .59/.27/.11/.03 in sequences of 10 units, .49/.30/.16/.05 of 20, .45/.30/.17/.08 of 40,
    .41/.30/.19/.09 of 128, and .40/.30/.20/.10 only of 512 and more.

    Args:
        chances: of 1, 2, 3, ... units; need not add up to 1.
    """

    def __init__(self, chances: npt.ArrayLike) -> None:
        weights = np.asarray(chances, np.float64)
        self._cumulative = np.cumsum(weights / weights.sum()).tolist()
        self._cumulative[-1] = 1.0  # rounding must not make room for a longer run

    def select_in_batch(
        self,
        batch: EncodingBatch,
        costs: npt.NDArray[np.int64],
        budgets: npt.NDArray[np.int64],
        streams: Streams,
    ) -> Selection:
        """See :meth:`BatchSelector.select_in_batch`; a budget is met on average."""
        numbers = number_of_units(batch.encoding_of_unit, costs, budgets, streams)
        runs = [
            run_of_unit
            for units, number, generator in zip(
                batch.num_units.tolist(), numbers.tolist(), streams.generators(), strict=True
            )
            for run_of_unit in self._runs(units, number, generator)
        ]
        return positions_of_units(batch, _cut(np.array(runs, np.int64), batch))

    def _runs(self, units: int, number: int, generator: np.random.Generator) -> list[int]:
        """For every unit of a sequence the number of its run; -1 for none."""
        left, free = number, units
        taken = bytearray(2 * units)  # the ring twice: a run may pass its seam
        run_of_unit = [-1] * units
        run = 0
        while left > 0 and free:
            start, length = self._place(taken, generator)
            if length > left and generator.random() * length >= left:
                break
            for unit in range(start, start + length):
                unit %= units
                taken[unit] = taken[unit + units] = 1
                run_of_unit[unit] = run
            run += 1
            free -= length
            left -= length
        return run_of_unit

    def _place(self, taken: bytearray, generator: np.random.Generator) -> tuple[int, int]:
        """Start and length of a new run, uniform over the free places of a drawn length."""
        units = len(taken) // 2
        length = min(bisect_right(self._cumulative, generator.random()) + 1, units)
        # Most places are free at usual rates: trying a few is ten times faster than listing them.
        for _ in range(_TRIES):
            start = int(generator.random() * units)
            if 1 not in taken[start : start + length]:
                return start, length
        is_taken = np.frombuffer(taken, np.uint8)
        starts = _free_starts(is_taken, length)
        while not len(starts):
            length -= 1
            starts = _free_starts(is_taken, length)
        return int(starts[generator.integers(len(starts))]), length


class SpanSelector(RunSelector):
    """Runs with geometric lengths (SpanBERT, arXiv 1907.10529, section 3.1).

    Deviation: lengths count units, not words. :class:`RunSelector` says how spans are placed, cut
    and fitted into a budget.

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
        _check_longest("span selector: max_units", max_units, least=1)
        lengths = np.arange(1, max_units + 1)
        super().__init__(stop_probability * (1 - stop_probability) ** (lengths - 1))


class NgramSelector(RunSelector):
    """N-grams of units with given shares, by default those of MacBERT (arXiv 2004.13922).

    The paper leaves open how overlaps, the budget's end and sequences shorter than an n-gram are
    handled; see :class:`RunSelector` for all three, and for the shares in short sequences.

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
        _check_longest("block selector: longest", longest, least=2)
        longer = longest - 1
        super().__init__([single, *[(1 - single) / longer] * longer])


def _check_longest(argument: str, given: object, *, least: int) -> None:
    if not isinstance(given, int) or not least <= given <= LONGEST_SPAN:
        raise ConfigError(
            f"{argument} = {given!r}; it is a whole number from {least} to {LONGEST_SPAN:,}."
        )


def _cut(run_of_unit: npt.NDArray[np.int64], batch: EncodingBatch) -> npt.NDArray[np.int64]:
    """Number the groups: a new one where the run changes or the units are not adjacent."""
    is_border = np.diff(run_of_unit, prepend=-1) != 0
    is_border[1:] |= _are_apart(batch)
    return np.where(run_of_unit >= 0, np.cumsum(is_border), -1)


def _are_apart(batch: EncodingBatch) -> npt.NDArray[np.bool_]:
    """Whether anything lies between a unit and the one before it, for all but the first."""
    maskable = np.flatnonzero(batch.unit_ids >= 0)
    units = batch.unit_ids[maskable]
    first_tokens = maskable[np.diff(units, prepend=-1) != 0][1:]
    last_tokens = maskable[np.diff(units, append=-1) != 0][:-1]
    are_apart: npt.NDArray[np.bool_] = first_tokens != last_tokens + 1
    for owner in (batch.segment_ids, batch.encoding_of_token):
        are_apart |= owner[first_tokens] != owner[last_tokens]
    return are_apart


def _free_starts(is_taken: npt.NDArray[np.uint8], length: int) -> npt.NDArray[np.int64]:
    """Units where a free run of the given length may start; the ring is given twice."""
    units = len(is_taken) // 2
    taken_before = np.concatenate([[0], np.cumsum(is_taken, dtype=np.int64)])
    return np.flatnonzero(taken_before[length : length + units] == taken_before[:units])
