"""Runs of adjacent units: spans, n-grams and blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import EncodingBatch, IntArray
from seqmlm.errors import ConfigError
from seqmlm.masking.arguments import add_up, check_number
from seqmlm.masking.run_lengths import before_in_sequence, draw_lengths, weights_before_cuts
from seqmlm.masking.selectors import (
    BatchSelector,
    Selection,
    number_of_units,
    positions_of_units,
)
from seqmlm.randomness import Streams

LONGEST_SPAN = 100_000


class RunSelector(BatchSelector):
    """Runs of adjacent units whose lengths have given shares.

    The budget becomes a number of units as in :class:`UnitSelector`. Lengths are drawn first
    (:func:`~seqmlm.masking.run_lengths.draw_lengths`), then the runs are laid out disjointly on a
    ring, the end of the sequence joined to its start: each falls independently into one of the gaps
    between the units left over, and the whole is turned by a random angle. So every unit is hidden
    equally often, at the ends of the sequence and beside unmaskable tokens too. A run is then cut
    into groups at the end of the sequence, at unmaskable tokens and at the border of a segment: no
    group crosses one, and the lengths drawn make up for it
    (:func:`~seqmlm.masking.run_lengths.weights_before_cuts`).

    In expectation the rate is exact always, and the shares of the groups' lengths are exact in any
    sequence in which

    * there is room: its number of units to choose, plus the longest run, is at most one more than
      the units it has (else the last run is shortened to meet the budget, so that a rate of 1 hides
      everything),
    * some stretch of adjacent units has room for the longest run (else longer ones count as the
      longest that fits), and
    * cuts do not make more pieces of some length than its share asks for.

    At a rate of 0.15 these hold for 1- to 4-grams of .40/.30/.20/.10 in sequences of 4 units and
    more without a break, or broken into stretches of 4; for the spans of SpanBERT, of 1 to 10
    units, from 11 and for UniLM-v2's blocks from 6. What was realised is counted.

    Args:
        shares: of 1, 2, 3, ... units; need not add up to 1.
    """

    def __init__(self, shares: npt.ArrayLike) -> None:
        weights = np.asarray(shares, np.float64)
        self.shares = weights / weights.sum()
        """Of 1, 2, 3, ... units, adding up to 1; float64."""

    def select_in_batch(
        self,
        batch: EncodingBatch,
        costs: npt.NDArray[np.int64],
        budgets: npt.NDArray[np.int64],
        streams: Streams,
    ) -> Selection:
        """See :meth:`BatchSelector.select_in_batch`; a budget is met on average."""
        units = batch.num_units
        numbers = number_of_units(batch.encoding_of_unit, costs, budgets, streams)
        is_first = _begins_stretch(batch)
        first_units = np.flatnonzero(is_first)
        sizes = np.diff(first_units, append=len(is_first))
        weights = weights_before_cuts(
            self.shares, units, batch.encoding_of_unit[first_units], sizes
        )
        sequences, lengths = draw_lengths(weights, numbers, units, streams)
        run_of_unit = _laid_out(sequences, lengths, units, streams)
        is_first |= np.diff(run_of_unit, prepend=-1) != 0
        return positions_of_units(batch, np.where(run_of_unit >= 0, np.cumsum(is_first), -1))


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
        check_number("span selector: stop_probability", stop_probability, excluded=0)
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
        if isinstance(p, str) or not isinstance(p, Sequence) or not add_up(p):
            raise ConfigError(
                f"ngram selector: p = {p!r}; a list of the shares of 1-grams, 2-grams, ..., which "
                "are 0 or more and add up to 1, such as [0.4, 0.3, 0.2, 0.1]."
            )
        super().__init__(p)


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
        check_number("block selector: single", single)
        _check_longest("block selector: longest", longest, least=2)
        longer = longest - 1
        super().__init__([single, *[(1 - single) / longer] * longer])


def units_of_groups(groups: IntArray, units: IntArray) -> npt.NDArray[np.int64]:
    """Return how many units each group of adjacent ones has, int64 ``[groups]``.

    Args:
        groups: int32 ``[m]``, of the selected positions.
        units: int32 ``[m]``.
    """
    groups_of_units = groups[np.diff(units, prepend=-1) != 0]
    begins_group = np.diff(groups_of_units, prepend=-1) != 0
    return np.diff(np.flatnonzero(begins_group), append=len(begins_group))


def _check_longest(argument: str, given: object, *, least: int) -> None:
    if type(given) is not int or not least <= given <= LONGEST_SPAN:
        raise ConfigError(
            f"{argument} = {given!r}; it is a whole number from {least} to {LONGEST_SPAN:,}."
        )


def _begins_stretch(batch: EncodingBatch) -> npt.NDArray[np.bool_]:
    """Whether anything lies between a unit and the one before it, bool ``[units]``."""
    maskable = np.flatnonzero(batch.unit_ids >= 0)
    first_tokens = maskable[np.diff(batch.unit_ids[maskable], prepend=-1) != 0]
    before = first_tokens - 1
    begins: npt.NDArray[np.bool_] = batch.unit_ids[before] < 0
    for owner in (batch.segment_ids, batch.encoding_of_token):
        begins |= owner[before] != owner[first_tokens]
    begins[:1] = True  # whatever stands before the first token of the batch, at its end
    return begins


def _laid_out(
    sequences: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    units: npt.NDArray[np.int64],
    streams: Streams,
) -> npt.NDArray[np.int64]:
    """For every unit of the batch the number of its run, -1 for none; see :class:`RunSelector`."""
    numbers = np.bincount(sequences, minlength=len(units))
    hidden = np.bincount(sequences, lengths, minlength=len(units)).astype(np.int64)
    gaps = ((units - hidden)[sequences] * streams.uniform(numbers)).astype(np.int64)
    # Sorted within each sequence: a gap is a number below that of the units.
    limit = int(units.max(initial=1))
    gaps = np.sort(sequences * limit + gaps) - sequences * limit
    angles = (units * streams.uniform(np.ones_like(units))).astype(np.int64)
    starts = angles[sequences] + gaps + before_in_sequence(lengths, numbers)
    runs = np.repeat(np.arange(len(lengths)), lengths)
    places = starts[runs] + np.arange(len(runs)) - (np.cumsum(lengths) - lengths)[runs]
    owners = sequences[runs]
    run_of_unit = np.full(int(units.sum()), -1)
    run_of_unit[places % units[owners] + (np.cumsum(units) - units)[owners]] = runs
    return run_of_unit
