"""Selectors that break one promise each are refused, in words that name the promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from seqmlm.domain import Domain
from seqmlm.encoding import Encoding, EncodingBatch
from seqmlm.masking.selectors import (
    BatchSelector,
    Selection,
    Selector,
    TokenSelector,
    UnitSelector,
    positions_of_units,
)
from seqmlm.randomness import Streams
from seqmlm.testing import check_selector

TEXTS = [
    "the quick brown fox jumps over a lazy dog. it was not amused",
    "whole words are hidden. or they are not. nothing in between",
    "a",
    ".",
]
GLOBAL = np.random.default_rng()

Integers = npt.NDArray[np.int64]
Change = Callable[[Selection, EncodingBatch], Selection]


def changed(change: Change, base: type[BatchSelector] = UnitSelector) -> Selector:
    """A selector whose choice is changed afterwards."""

    class Changed(base):  # type: ignore[misc, valid-type]
        def select_in_batch(
            self, batch: EncodingBatch, costs: Integers, budgets: Integers, streams: Streams
        ) -> Selection:
            return change(super().select_in_batch(batch, costs, budgets, streams), batch)

    return Changed()


def given_other(
    change: Callable[[Integers, Integers, Streams], tuple[Integers, Integers, Streams]],
) -> Selector:
    """A selector that takes its costs, budgets and random numbers for something else."""

    class Changed(UnitSelector):
        def select_in_batch(
            self, batch: EncodingBatch, costs: Integers, budgets: Integers, streams: Streams
        ) -> Selection:
            return super().select_in_batch(batch, *change(costs, budgets, streams))

    return Changed()


def kept(selection: Selection, keeps: npt.NDArray[np.bool_]) -> Selection:
    return Selection(selection.positions[keeps], selection.groups[keeps])


def in_random_order(selection: Selection, batch: EncodingBatch) -> Selection:
    order = np.arange(len(selection.positions))[::-1]
    return Selection(selection.positions[order], selection.groups[order])


def everything_twice(selection: Selection, batch: EncodingBatch) -> Selection:
    return Selection(np.repeat(selection.positions, 2), np.repeat(selection.groups, 2))


def with_the_token_before(selection: Selection, batch: EncodingBatch) -> Selection:
    positions = np.unique(np.maximum(selection.positions - 1, 0)).astype(np.int32)
    return Selection(positions, positions)


def without_last_letters(selection: Selection, batch: EncodingBatch) -> Selection:
    units = batch.unit_ids[selection.positions]
    is_last = np.diff(units, append=-1) != 0
    return kept(selection, ~is_last | (batch.unit_sizes[units] == 1))


def in_one_group(selection: Selection, batch: EncodingBatch) -> Selection:
    return replace(selection, groups=np.zeros_like(selection.groups))


def in_falling_groups(selection: Selection, batch: EncodingBatch) -> Selection:
    return replace(selection, groups=10_000_000 - selection.groups)


def one_group_each_but_for_the_first(selection: Selection, batch: EncodingBatch) -> Selection:
    owners = batch.encoding_of_token[selection.positions]
    groups = np.where(owners == 1, selection.groups, owners * 1_000)
    return replace(selection, groups=groups.astype(np.int32))


def changing_ids(selection: Selection, batch: EncodingBatch) -> Selection:
    for encoding in batch.encodings:
        encoding.ids[:] = 5
    return selection


class CountsItsCalls(UnitSelector):
    """Draws other numbers at every call."""

    def __init__(self) -> None:
        self._calls = 0

    def select_in_batch(
        self, batch: EncodingBatch, costs: Integers, budgets: Integers, streams: Streams
    ) -> Selection:
        self._calls += 1
        streams.uniform(np.full(len(batch), self._calls))
        return super().select_in_batch(batch, costs, budgets, streams)


class FirstUnits:
    """As CugLM's code: from the left until the budget is spent."""

    chooses_whole_units = True
    rate_tolerance = 0.2

    def select(
        self, encoding: Encoding, costs: Integers, budget: int, generator: np.random.Generator
    ) -> Selection:
        is_chosen = np.cumsum(costs) <= budget
        return positions_of_units(encoding, np.where(is_chosen, np.arange(len(costs)), -1))


class HalfAtMost:
    chooses_whole_units = True
    rate_tolerance = 0.0

    def select(
        self, encoding: Encoding, costs: Integers, budget: int, generator: np.random.Generator
    ) -> Selection:
        half = min(budget, int(costs.sum() * 0.6))
        return UnitSelector().select(encoding, costs, half, generator)


class LeavesOut(HalfAtMost):
    """At a rate of 1 all but the longest words, at others any."""

    def select(
        self, encoding: Encoding, costs: Integers, budget: int, generator: np.random.Generator
    ) -> Selection:
        if budget < costs.sum():
            return UnitSelector().select(encoding, costs, budget, generator)
        is_short = np.bincount(encoding.unit_ids + 1, minlength=len(costs) + 1)[1:] < 4
        return positions_of_units(encoding, np.where(is_short, np.arange(len(costs)), -1))


class Silent:
    """Says nothing of itself."""

    def select(
        self, encoding: Encoding, costs: Integers, budget: int, generator: np.random.Generator
    ) -> Selection:
        return UnitSelector().select(encoding, costs, budget, generator)


class Negative(UnitSelector):
    rate_tolerance = -1.0


class Undecided(UnitSelector):
    chooses_whole_units = None  # type: ignore[assignment]


class SaysWhole(TokenSelector):
    chooses_whole_units = True


class NeedsUnits(HalfAtMost):
    def select(
        self, encoding: Encoding, costs: Integers, budget: int, generator: np.random.Generator
    ) -> Selection:
        generator.integers(len(costs))
        return UnitSelector().select(encoding, costs, budget, generator)


class CannotBeFitted(UnitSelector):
    def fit(self, domain: Domain, sequences: object) -> None:
        raise KeyError("corpus")


def random_streams(
    costs: Integers, budgets: Integers, streams: Streams
) -> tuple[Integers, Integers, Streams]:
    return costs, budgets, Streams(GLOBAL.integers(2**63, size=len(streams)).astype(np.uint64))


BROKEN: dict[str, tuple[Callable[[], Any], str]] = {
    "positions not in order": (
        lambda: changed(in_random_order),
        r"select\(\): positions do not increase, or one is there twice",
    ),
    "positions twice": (
        lambda: changed(everything_twice),
        "positions do not increase, or one is there twice",
    ),
    "special tokens": (
        lambda: changed(with_the_token_before),
        r"select\(\): a token that may not be masked is chosen",
    ),
    "positions beyond the end": (
        lambda: changed(lambda s, b: replace(s, positions=s.positions + len(b.ids))),
        "a position lies outside the sequence",
    ),
    "negative positions": (
        lambda: changed(lambda s, b: replace(s, positions=s.positions - len(b.ids))),
        "a position lies outside the sequence",
    ),
    "positions of int64": (
        lambda: changed(lambda s, b: replace(s, positions=s.positions.astype(np.int64))),
        "positions must be int32, not int64",
    ),
    "groups of float64": (
        lambda: changed(lambda s, b: replace(s, groups=s.groups.astype(np.float64))),
        "groups must be int32, not float64",
    ),
    "a list of positions": (
        lambda: changed(lambda s, b: replace(s, positions=s.positions.tolist())),
        "positions are no array",
    ),
    "a group too few": (
        lambda: changed(lambda s, b: replace(s, groups=s.groups[:-1])),
        "groups have the shape",
    ),
    "parts of words": (lambda: changed(without_last_letters), "part of a unit is chosen"),
    "tokens, but says units": (SaysWhole, "part of a unit is chosen"),
    "each letter its own group": (
        lambda: changed(lambda s, b: replace(s, groups=s.positions)),
        "a unit is in two groups",
    ),
    "one group for a batch": (lambda: changed(in_one_group), "a group has tokens of two sequences"),
    "groups from the end": (
        lambda: changed(in_falling_groups),
        "groups of an earlier sequence do not have smaller numbers",
    ),
    "groups by the place in the batch": (
        lambda: changed(one_group_each_but_for_the_first),
        "what else a batch holds changes which positions are one group",
    ),
    "an outside generator": (
        lambda: given_other(random_streams),
        "the same random numbers chose other positions",
    ),
    "other masks at every call": (CountsItsCalls, "the same random numbers chose other positions"),
    "numbers of its place in the batch": (
        lambda: given_other(lambda c, b, s: (c, b, Streams(np.arange(len(s)).astype(np.uint64)))),
        "what else a batch holds, or was chosen before, changes",
    ),
    "the first units": (FirstUnits, "400 draws chose the same: they do not depend on the random"),
    "the same stream for all": (
        lambda: given_other(lambda c, b, s: (c, b, Streams(np.zeros(len(s), np.uint64)))),
        "they do not depend on the random numbers",
    ),
    "something for nothing": (
        lambda: given_other(lambda c, b, s: (c, b + 1, s)),
        "something is chosen for a budget of 0",
    ),
    "a tenth too much": (
        lambda: given_other(lambda c, b, s: (c, np.ceil(b * 1.2).astype(np.int64), s)),
        r"rate_tolerance: 0\.\d+ is chosen on average instead of 0\.\d+",
    ),
    "units, where tokens are counted": (
        lambda: given_other(lambda c, b, s: (np.ones_like(c), b, s)),
        "is chosen on average instead of 0.15",
    ),
    "half at most": (HalfAtMost, "at a rate of 1"),
    "less at a rate of 1": (LeavesOut, "at a rate of 1 tokens are left out that a rate of 0.15"),
    "an encoding is changed": (
        lambda: changed(changing_ids),
        r"select\(\): an encoding was changed",
    ),
    "costs are changed": (
        lambda: given_other(lambda c, b, s: (np.multiply(c, 2, out=c), b * 2, s)),
        "costs were changed",
    ),
    "budgets are changed": (
        lambda: given_other(lambda c, b, s: (c, np.add(b, b, out=b) // 2, s)),
        "budgets were changed",
    ),
    "needs a unit": (NeedsUnits, r"select\(\): raised ValueError"),
    "says nothing of itself": (Silent, "chooses_whole_units: raised AttributeError"),
    "says neither": (Undecided, "chooses_whole_units: it must be True or False"),
    "a negative tolerance": (Negative, "rate_tolerance: it must be 0 or more"),
    "cannot be fitted": (CannotBeFitted, r"fit\(\): raised KeyError"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_selector_is_refused_by_name(name: str, words: Domain) -> None:
    build, message = BROKEN[name]
    with pytest.raises(AssertionError, match=message):
        check_selector(build(), words, TEXTS)


class Above(UnitSelector):
    """Says how far it is from the rate."""

    rate_tolerance = 0.2

    def select_in_batch(
        self, batch: EncodingBatch, costs: Integers, budgets: Integers, streams: Streams
    ) -> Selection:
        more = np.where(budgets > 0, np.minimum(budgets + 2, costs.sum()), 0)
        return super().select_in_batch(batch, costs, more, streams)


@pytest.mark.parametrize(
    "selector",
    [TokenSelector(), UnitSelector(), Above(), changed(lambda s, b: s)],
    ids=["token", "unit", "off by its tolerance", "unchanged"],
)
def test_the_selectors_that_they_are_made_of_are_not(selector: Selector, words: Domain) -> None:
    check_selector(selector, words, TEXTS[:2])


def test_texts_without_anything_to_mask_are_no_check(words: Domain) -> None:
    with pytest.raises(AssertionError, match="give texts with tokens that may be masked"):
        check_selector(UnitSelector(), words, [".", ". ."])


def test_a_selector_of_batches_cannot_override_what_is_never_called() -> None:
    with pytest.raises(TypeError, match=r"Mine overrides select\(\).*Override select_in_batch"):
        type("Mine", (UnitSelector,), {"select": lambda *_: None})
