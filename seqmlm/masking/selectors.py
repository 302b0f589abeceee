"""Selectors choose which tokens a sample hides. They see units, never domains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import Encoding, EncodingBatch, IntArray
from seqmlm.randomness import Streams


@dataclass(frozen=True, slots=True)
class Selection:
    """Token positions chosen in one encoding, or in a batch.

    Args:
        positions: int32 ``[m]``, increasing.
        groups: int32 ``[m]``; positions of one group were chosen together, so a corruptor can
            treat them alike. No group of a batch has positions in two sequences, and the groups of
            an earlier sequence have smaller numbers.
        units: int32 ``[m]``, the unit of each; a policy fills it in for its corruptor.
        batch: the sequences chosen from; filled in likewise.
    """

    positions: IntArray
    groups: IntArray
    units: IntArray | None = None
    batch: EncodingBatch | None = None


class Selector(Protocol):
    """Chooses positions whose costs add up to a budget, exactly or on average."""

    chooses_whole_units: bool
    """Whether all tokens of a unit are chosen or none, and in one group."""

    rate_tolerance: float
    """How far the share that is chosen may be from the rate, on average over many draws: 0 if the
    average is exact, infinite if the rate plays no part."""

    def select(
        self,
        encoding: Encoding,
        costs: npt.NDArray[np.int64],
        budget: int,
        generator: np.random.Generator,
    ) -> Selection:
        """Choose units for a budget: the expected sum of their costs.

        Args:
            encoding: the sequence; tokens of unit -1 are never chosen.
            costs: int64 ``[units]``; what each unit takes from the budget.
            budget: how much to choose; fewer only if the sequence has fewer.
            generator: the only source of randomness.
        """
        ...


class BatchSelector(ABC):
    """A selector that chooses in all sequences of a batch at once, which is faster.

    Raises:
        TypeError: a subclass overrides :meth:`select`, which masking does not call.
    """

    chooses_whole_units: bool = True
    rate_tolerance: float = 0.0

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "select" in vars(cls):
            raise TypeError(
                f"{cls.__name__} overrides select(), which masking does not call of a selector "
                "that chooses in many sequences at once. Override select_in_batch(), or write a "
                "class with select() that derives from none."
            )

    def select(
        self,
        encoding: Encoding,
        costs: npt.NDArray[np.int64],
        budget: int,
        generator: np.random.Generator,
    ) -> Selection:
        """See :meth:`Selector.select`."""
        batch, streams = EncodingBatch([encoding]), Streams.of_one(generator)
        return self.select_in_batch(batch, costs, np.array([budget]), streams)

    @abstractmethod
    def select_in_batch(
        self,
        batch: EncodingBatch,
        costs: npt.NDArray[np.int64],
        budgets: npt.NDArray[np.int64],
        streams: Streams,
    ) -> Selection:
        """Choose units of every sequence for its own budget.

        Args:
            batch: the sequences; tokens of unit -1 are never chosen.
            costs: int64 ``[units]``, of all units of the batch.
            budgets: int64 ``[sequences]``.
            streams: the only source of randomness, of each sequence its own.
        """


class TokenSelector(BatchSelector):
    """Every maskable token is chosen alone, uniformly without replacement (BERT, RoBERTa)."""

    chooses_whole_units = False

    def select_in_batch(
        self,
        batch: EncodingBatch,
        costs: npt.NDArray[np.int64],
        budgets: npt.NDArray[np.int64],
        streams: Streams,
    ) -> Selection:
        """See :meth:`BatchSelector.select_in_batch`; ``costs`` play no part, a token costs 1."""
        maskable = np.flatnonzero(batch.unit_ids >= 0)
        is_chosen = draw(batch.encoding_of_token[maskable], budgets, streams)
        positions = maskable[is_chosen].astype(np.int32)
        return Selection(positions, positions)


class UnitSelector(BatchSelector):
    """Whole units, uniformly without replacement (whole-word, whole-identifier, whole-entity).

    The budget becomes a number of units, rounded at random: every unit is chosen with the same
    chance, short or long, in sequences of any length, and the expected amount is the budget. A
    rate per token and one per unit therefore agree; the amount in one sequence varies with the
    sizes of the units drawn.
    """

    def select_in_batch(
        self,
        batch: EncodingBatch,
        costs: npt.NDArray[np.int64],
        budgets: npt.NDArray[np.int64],
        streams: Streams,
    ) -> Selection:
        """See :meth:`BatchSelector.select_in_batch`; a budget is met on average."""
        return uniform_units(batch, np.arange(len(costs)), costs, budgets, streams)


def draw(
    sequences: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64], streams: Streams
) -> npt.NDArray[np.bool_]:
    """Draw candidates of each sequence, uniformly without replacement.

    Those with the smallest random keys are drawn. Should the last of them and the next candidate
    have the same key, as in one of a billion sequences, neither is.

    Args:
        sequences: int64 ``[candidates]``, not decreasing, the sequence of each.
        numbers: int64 ``[sequences]``, how many to draw; all where there are fewer.
        streams: of the sequences.

    Returns:
        bool ``[candidates]``.
    """
    available = np.bincount(sequences, minlength=len(streams))
    keys = _random_keys(sequences, available, streams)
    # Sorting the keys is four times faster than finding the order that sorts them.
    ordered = np.append(np.sort(keys), np.iinfo(np.int64).max)
    first_left = np.cumsum(available) - available + np.minimum(numbers, available)
    is_drawn: npt.NDArray[np.bool_] = keys < ordered[first_left][sequences]
    return is_drawn


def random_places(sequences: npt.NDArray[np.int64], streams: Streams) -> npt.NDArray[np.int64]:
    """Shuffle the candidates of each sequence.

    Args:
        sequences: int64 ``[candidates]``, not decreasing, the sequence of each.
        streams: of the sequences.

    Returns:
        int64 ``[candidates]``, the place of each among those of its sequence, from 0.
    """
    available = np.bincount(sequences, minlength=len(streams))
    order = np.argsort(_random_keys(sequences, available, streams), kind="stable")
    places = np.empty(len(sequences), np.int64)
    places[order] = np.arange(len(sequences)) - (np.cumsum(available) - available)[sequences]
    return places


def _random_keys(
    sequences: npt.NDArray[np.int64], available: npt.NDArray[np.int64], streams: Streams
) -> npt.NDArray[np.int64]:
    """Random numbers of 40 bits, above them the number of the sequence."""
    return (sequences << 40) + (streams.uniform(available) * 2**40).astype(np.int64)


def number_of_units(
    sequences: npt.NDArray[np.int64],
    costs: npt.NDArray[np.int64],
    budgets: npt.NDArray[np.int64],
    streams: Streams,
) -> npt.NDArray[np.int64]:
    """Return how many units to choose uniformly, for an expected cost of the budget.

    Args:
        sequences: int64 ``[candidates]``, the sequence of each unit that may be chosen.
        costs: int64 ``[candidates]``.
        budgets: int64 ``[sequences]``.
        streams: of the sequences; they say whether to round up or down.

    Returns:
        int64 ``[sequences]``; all candidates of a sequence if they cost less than its budget.
    """
    totals = np.bincount(sequences, weights=costs, minlength=len(streams))
    available = np.bincount(sequences, minlength=len(streams))
    rounding = streams.uniform(np.ones(len(streams), np.int64))
    rounded = (budgets * available / np.maximum(totals, 1) + rounding).astype(np.int64)
    return np.where(totals <= budgets, available, rounded)


def uniform_units(
    batch: EncodingBatch,
    candidates: npt.NDArray[np.int64],
    costs: npt.NDArray[np.int64],
    budgets: npt.NDArray[np.int64],
    streams: Streams,
) -> Selection:
    """Choose whole units, each candidate with the same chance, for an expected cost of the budget.

    Args:
        batch: the sequences.
        candidates: int64, unit numbers, increasing.
        costs: int64 ``[units]``.
        budgets: int64 ``[sequences]``; all candidates of a sequence if they cost less.
        streams: the only source of randomness.
    """
    sequences = batch.encoding_of_unit[candidates]
    numbers = number_of_units(sequences, costs[candidates], budgets, streams)
    chosen = candidates[draw(sequences, numbers, streams)]
    group_of_unit = np.full(len(costs), -1)
    group_of_unit[chosen] = chosen
    return positions_of_units(batch, group_of_unit)


def positions_of_units(
    encoding: Encoding | EncodingBatch, group_of_unit: npt.NDArray[np.int64]
) -> Selection:
    """Select all tokens of the units that have a group; int64 ``[units]``, -1 for none."""
    groups = np.empty(len(group_of_unit) + 1, np.int32)
    groups[:-1], groups[-1] = group_of_unit, -1  # the last one is that of unit -1
    group_of_token = groups[encoding.unit_ids]
    positions = np.flatnonzero(group_of_token >= 0).astype(np.int32)
    return Selection(positions, group_of_token[positions])


def select_in_batch(
    selector: Selector,
    batch: EncodingBatch,
    costs: npt.NDArray[np.int64],
    budgets: npt.NDArray[np.int64],
    streams: Streams,
) -> Selection:
    """Choose in a batch by any selector, if need be in one sequence after the other.

    The arguments are those of :meth:`BatchSelector.select_in_batch`.
    """
    if isinstance(selector, BatchSelector):
        return selector.select_in_batch(batch, costs, budgets, streams)
    positions, groups = [], []
    parts = np.split(costs, np.cumsum(batch.num_units)[:-1])
    num_groups = 0
    for encoding, start, own_costs, budget, generator in zip(
        batch.encodings,
        batch.starts.astype(np.int32),
        parts,
        budgets.tolist(),
        streams.generators(),
        strict=True,
    ):
        chosen = selector.select(encoding, own_costs, budget, generator)
        positions.append(chosen.positions + start)
        groups.append(chosen.groups + np.int32(num_groups))
        num_groups += int(chosen.groups.max(initial=-1)) + 1
    return Selection(np.concatenate(positions), np.concatenate(groups))
