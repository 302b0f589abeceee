"""What every selector promises; :func:`seqmlm.testing.check_selector` says so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmlm.contract import reported
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding, EncodingBatch
from seqmlm.masking.contract_sequences import CheckedSequences
from seqmlm.masking.fitting import Fitted
from seqmlm.masking.selectors import Selection, Selector, select_in_batch
from seqmlm.randomness import Streams

NUM_DRAWS = 400
"""Draws in each sequence, over which the share that is chosen is averaged."""

STANDARD_ERRORS = 5.0
"""How far an average may be from what it should be, beside the tolerance that is stated."""

RATES = (0.15, 0.5)

LEFT_TO_CHOOSE = 4
"""Tokens or units that may be chosen and are not, from which on draws must not all be the same."""

Amounts = npt.NDArray[np.int64]


def check_selector(selector: Selector, domain: Domain, texts: Sequence[str]) -> None:
    """Hold a selector to its contract, on real sequences and some with hardly anything to mask.

    At a rate of 1 a selector chooses all that it ever may; at lower ones the rate's share of all
    units, or all that it may, if that is less. It may not depend on anything but its arguments.

    Args:
        selector: freshly built; one that is :class:`~seqmlm.masking.fitting.Fitted` is fitted here.
        domain: has its vocabulary.
        texts: at least two valid records, as :meth:`Domain.read` yields their content, one of them
            with eight units or more.

    Raises:
        AssertionError: a promise of :class:`~seqmlm.masking.selectors.Selector` is broken, or its
            code raised something itself.
    """
    name = type(selector).__name__
    sequences = CheckedSequences.of(domain, texts)
    before = _copied(sequences)
    with reported(name, "chooses_whole_units"):
        assert isinstance(selector.chooses_whole_units, bool), "it must be True or False"
    with reported(name, "rate_tolerance"):
        assert selector.rate_tolerance >= 0, "it must be 0 or more"
    with reported(name, "fit()"):
        if isinstance(selector, Fitted):
            selector.fit(domain, sequences.stored)
    with reported(name, "select()"):
        _check_selections(selector, sequences)
    with reported(name, "rate_tolerance"):
        for per_token in _kinds_of_costs(selector):
            _check_rates(selector, sequences.repeated(NUM_DRAWS), per_token=per_token)
    with reported(name, "select()"):
        assert all(map(np.array_equal, before, _copied(sequences))), "an encoding was changed"


def _kinds_of_costs(selector: Selector) -> Sequence[bool]:
    """Whether the budget counts tokens; units, too, if these are chosen whole."""
    return (True, False) if selector.chooses_whole_units else (True,)


def _costs(batch: EncodingBatch, *, per_token: bool) -> Amounts:
    return batch.unit_sizes if per_token else np.ones_like(batch.unit_sizes)


def _totals(batch: EncodingBatch, costs: Amounts) -> Amounts:
    return np.bincount(batch.encoding_of_unit, costs, minlength=len(batch)).astype(np.int64)


def _streams(batch: EncodingBatch) -> Streams:
    return Streams(np.arange(len(batch), dtype=np.uint64))


def _check_selections(selector: Selector, sequences: CheckedSequences) -> None:
    """Form, determinism, independence of the other sequences, and a budget of nothing."""
    batch = sequences.all
    for per_token in _kinds_of_costs(selector):
        costs = _costs(batch, per_token=per_token)
        totals = _totals(batch, costs)
        for budgets in (0 * totals, (totals + 1) // 2, totals):
            given = costs.copy(), budgets.copy()
            selection = select_in_batch(selector, batch, *given, _streams(batch))
            assert np.array_equal(given[0], costs), "costs were changed"
            assert np.array_equal(given[1], budgets), "budgets were changed"
            _check_form(selector, batch, selection)
            if not budgets.any() and math.isfinite(selector.rate_tolerance):
                assert not len(selection.positions), "something is chosen for a budget of 0"
            again = select_in_batch(selector, batch, costs, budgets, _streams(batch))
            assert np.array_equal(selection.positions, again.positions), (
                "the same random numbers chose other positions"
            )
            assert np.array_equal(selection.groups, again.groups), (
                "the same random numbers gave other groups"
            )
            _check_alone(selector, batch, costs, budgets, selection)


def _check_form(selector: Selector, batch: EncodingBatch, selection: Selection) -> None:
    """What holds for every selection of a batch."""
    positions, groups = selection.positions, selection.groups
    for name, array in (("positions", positions), ("groups", groups)):
        assert isinstance(array, np.ndarray), f"{name} are no array"
        assert array.dtype == np.int32, f"{name} must be int32, not {array.dtype}"
        assert array.shape == (len(positions),), f"{name} have the shape {array.shape}"
    assert ((positions >= 0) & (positions < len(batch.ids))).all(), (
        "a position lies outside the sequence"
    )
    assert (np.diff(positions) > 0).all(), "positions do not increase, or one is there twice"
    units = batch.unit_ids[positions]
    assert (units >= 0).all(), "a token that may not be masked is chosen"
    owners = batch.encoding_of_token[positions]
    in_order = np.lexsort((owners, groups))
    new_group, new_owner = np.diff(groups[in_order]) != 0, np.diff(owners[in_order])
    assert (new_owner[~new_group] == 0).all(), "a group has tokens of two sequences"
    assert (new_owner >= 0).all(), "groups of an earlier sequence do not have smaller numbers"
    if selector.chooses_whole_units:
        chosen = np.bincount(units, minlength=len(batch.unit_sizes))
        assert ((chosen == 0) | (chosen == batch.unit_sizes)).all(), "part of a unit is chosen"
        pairs = np.unique(np.stack([units, groups]), axis=1).shape[1]
        assert pairs == np.count_nonzero(chosen), "a unit is in two groups"


def _check_alone(
    selector: Selector,
    batch: EncodingBatch,
    costs: Amounts,
    budgets: Amounts,
    together: Selection,
) -> None:
    """Each sequence is chosen from as if there were no other, and as if it came last."""
    own_costs = np.split(costs, np.cumsum(batch.num_units)[:-1])
    owners = batch.encoding_of_token[together.positions]
    for number in reversed(range(len(batch))):
        alone = select_in_batch(
            selector,
            EncodingBatch([batch.encodings[number]]),
            own_costs[number],
            budgets[number : number + 1],
            Streams(np.array([number], np.uint64)),
        )
        is_own = owners == number
        positions = together.positions[is_own] - batch.starts[number]
        assert np.array_equal(positions, alone.positions), (
            "what else a batch holds, or was chosen before, changes what is chosen in a sequence"
        )
        assert np.array_equal(_numbered(together.groups[is_own]), _numbered(alone.groups)), (
            "what else a batch holds changes which positions are one group"
        )


def _numbered(groups: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The same groups, counted from 0."""
    return np.unique(groups, return_inverse=True)[1]


def _check_rates(selector: Selector, batch: EncodingBatch, *, per_token: bool) -> None:
    """The average amount is the rate's share of all, or what may be chosen if that is less."""
    if not math.isfinite(selector.rate_tolerance):
        return
    costs = _costs(batch, per_token=per_token)
    totals = _totals(batch, costs).reshape(-1, NUM_DRAWS)
    streams = _streams(batch)

    def chosen_for(budgets: Amounts) -> tuple[Amounts, npt.NDArray[np.bool_]]:
        selection = select_in_batch(selector, batch, costs, budgets.ravel(), streams)
        is_chosen = np.zeros(len(batch.ids), np.bool_)
        is_chosen[selection.positions] = True
        return _amounts(batch, selection, per_token=per_token), is_chosen

    may_be_chosen, ever_chosen = chosen_for(totals)
    assert (np.ptp(may_be_chosen, axis=1) == 0).all(), (
        "at a rate of 1 draws differ in how much they choose"
    )
    for rate in RATES:
        rounding = np.random.default_rng(0).random(totals.shape)
        budgets = (rate * totals + rounding).astype(np.int64)
        amounts, is_chosen = chosen_for(budgets)
        assert ever_chosen[is_chosen].all(), (
            f"at a rate of 1 tokens are left out that a rate of {rate:g} chooses"
        )
        has_choice = may_be_chosen[:, 0] - rate * totals[:, 0] >= LEFT_TO_CHOOSE
        _check_variety(batch, is_chosen, has_choice)
        _check_average(selector, rate, totals[:, 0], amounts - np.minimum(budgets, may_be_chosen))


def _amounts(batch: EncodingBatch, selection: Selection, *, per_token: bool) -> Amounts:
    """Tokens or units chosen, int64 ``[encodings, draws]``."""
    tokens = selection.positions
    if not per_token:
        tokens = tokens[np.diff(batch.unit_ids[tokens], prepend=-1) != 0]
    return batch.count(tokens).reshape(-1, NUM_DRAWS)


def _check_average(selector: Selector, rate: float, totals: Amounts, excess: Amounts) -> None:
    shares = excess / totals[:, None]
    errors = STANDARD_ERRORS * shares.std(axis=1) / math.sqrt(NUM_DRAWS)
    for total, share, error in zip(totals.tolist(), shares.mean(axis=1), errors, strict=True):
        assert abs(share) <= selector.rate_tolerance + error + 1e-9, (
            f"{rate + share:.3f} is chosen on average instead of {rate:g}, in a sequence of "
            f"{total:,} tokens or units"
        )


def _check_variety(
    batch: EncodingBatch, is_chosen: npt.NDArray[np.bool_], has_choice: npt.NDArray[np.bool_]
) -> None:
    """Other random numbers choose other tokens, where enough of them are left."""
    draws_of_each = np.split(is_chosen, batch.starts[NUM_DRAWS::NUM_DRAWS])
    for chosen, must_differ in zip(draws_of_each, has_choice, strict=True):
        draws = chosen.reshape(NUM_DRAWS, -1)
        assert not must_differ or (draws != draws[0]).any(), (
            f"{NUM_DRAWS} draws chose the same: they do not depend on the random numbers"
        )


def _copied(sequences: CheckedSequences) -> list[npt.NDArray[Any]]:
    return [
        np.copy(getattr(encoding, field.name))
        for encoding in (*sequences.real, *sequences.bare)
        for field in fields(Encoding)
    ]
