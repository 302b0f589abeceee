"""Corruptors that break one promise each are refused, in words that name the promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from seqmlm.domain import Domain
from seqmlm.encoding import IntArray
from seqmlm.masking.corruptors import Corruption, Corruptor, MixedCorruptor, first_of_equals
from seqmlm.masking.selectors import Selection
from seqmlm.testing import check_corruptor

TEXTS = [
    "the quick brown fox jumps over a lazy dog. it was not amused",
    "whole words are hidden. or they are not. nothing in between",
    "a",
    ".",
]
GLOBAL = np.random.default_rng()
PADDING, END = 0, 3

Uniform = npt.NDArray[np.float64]


class Wrapped:
    """BERT's corruptor between a change of what it is given and one of what it returns."""

    mask_share = 0.8

    def corrupt(
        self,
        ids: IntArray,
        selection: Selection,
        *,
        mask_id: int,
        token_range: tuple[int, int],
        uniform: Uniform,
    ) -> Corruption:
        ids, selection, uniform = self.before(ids, selection, uniform)
        corruption = MixedCorruptor().corrupt(
            ids, selection, mask_id=mask_id, token_range=token_range, uniform=uniform
        )
        return self.after(corruption)

    def before(
        self, ids: IntArray, selection: Selection, uniform: Uniform
    ) -> tuple[IntArray, Selection, Uniform]:
        return ids, selection, uniform

    def after(self, corruption: Corruption) -> Corruption:
        return corruption


def after(change: Callable[[Corruption], Corruption]) -> Corruptor:
    class Changed(Wrapped):
        def after(self, corruption: Corruption) -> Corruption:
            return change(corruption)

    return Changed()


def drawing(change: Callable[[Uniform, Selection], Uniform]) -> Corruptor:
    """A corruptor that takes its random numbers for others."""

    class Changed(Wrapped):
        def before(self, ids: IntArray, selection: Selection, uniform: Uniform) -> Any:
            return ids, selection, change(uniform, selection)

    return Changed()


def with_ids(corruption: Corruption, places: Any, tokens: Any) -> Corruption:
    ids = corruption.ids.copy()
    ids[places] = tokens
    return replace(corruption, ids=ids)


def with_special(corruption: Corruption) -> Corruption:
    return with_ids(corruption, corruption.selection.positions[:1], END)


def beside_it(corruption: Corruption) -> Corruption:
    positions = corruption.selection.positions
    return with_ids(corruption, np.setdiff1d(positions + 1, positions)[:1], 9)


def without_half(corruption: Corruption) -> Corruption:
    chosen = corruption.selection
    return replace(corruption, selection=Selection(chosen.positions[::2], chosen.groups[::2]))


def with_another(corruption: Corruption) -> Corruption:
    chosen = corruption.selection
    return replace(
        corruption,
        selection=Selection(np.insert(chosen.positions, 0, 0), np.insert(chosen.groups, 0, 0)),
    )


def reversed_selection(corruption: Corruption) -> Corruption:
    chosen = corruption.selection
    turned = Selection(chosen.positions[::-1], chosen.groups[::-1])
    return replace(corruption, selection=turned)


def regrouped(corruption: Corruption) -> Corruption:
    chosen = corruption.selection
    return replace(corruption, selection=replace(chosen, groups=chosen.groups + np.int32(1)))


def one_longer(corruption: Corruption) -> Corruption:
    return replace(corruption, ids=np.append(corruption.ids, np.int32(9)))


def counting(number: Callable[[Corruption], Any]) -> Corruptor:
    return after(lambda corruption: replace(corruption, without_candidate=number(corruption)))


class InPlace(Wrapped):
    def after(self, corruption: Corruption) -> Corruption:
        return replace(corruption, ids=self._given)

    def before(self, ids: IntArray, selection: Selection, uniform: Uniform) -> Any:
        self._given = ids
        ids[selection.positions] = 9
        return ids, selection, uniform


class ChangesItsSelection(Wrapped):
    def before(self, ids: IntArray, selection: Selection, uniform: Uniform) -> Any:
        given = Selection(selection.positions.copy(), selection.groups)
        selection.positions[:] = 1
        return ids, given, uniform


class ChangesItsNumbers(Wrapped):
    def before(self, ids: IntArray, selection: Selection, uniform: Uniform) -> Any:
        given = uniform.copy()
        uniform[:] = 0.5
        return ids, selection, given


class CountsItsCalls(Wrapped):
    calls = 0

    def before(self, ids: IntArray, selection: Selection, uniform: Uniform) -> Any:
        self.calls += 1
        return ids, selection, (uniform + 0.37 * self.calls) % 1


class DeclaresAll(Wrapped):
    mask_share = 1.0


class DeclaresNone(Wrapped):
    mask_share = 0.0


class DeclaresTooMuch(Wrapped):
    mask_share = 1.5


class DeclaresNothing(MixedCorruptor):
    def __init__(self) -> None:
        super().__init__()
        del self.mask_share


class BeyondTheRange:
    """Draws one token too many, as randint(low, high + 1) does."""

    mask_share = 0.0

    def corrupt(
        self,
        ids: IntArray,
        selection: Selection,
        *,
        mask_id: int,
        token_range: tuple[int, int],
        uniform: Uniform,
    ) -> Corruption:
        low, high = token_range
        corrupted = ids.copy()
        corrupted[selection.positions] = low + np.floor(uniform[:, 0] * (high - low + 1))
        return Corruption(corrupted, selection)


class FromTheBatch(BeyondTheRange):
    """Puts in what other sequences of the batch have."""

    def corrupt(self, ids: IntArray, selection: Selection, **given: Any) -> Corruption:
        corrupted = ids.copy()
        corrupted[selection.positions] = np.roll(ids[selection.positions], 1)
        return Corruption(corrupted, selection)


class NeedsASelection(Wrapped):
    def before(self, ids: IntArray, selection: Selection, uniform: Uniform) -> Any:
        return ids, selection, uniform + 0 * selection.positions[0]


class CannotBeFitted(Wrapped):
    def fit(self, domain: Domain, sequences: object) -> None:
        raise KeyError("table")


def of_first_in_batch(uniform: Uniform, selection: Selection) -> Uniform:
    return np.broadcast_to(uniform[:1], uniform.shape)


def per_unit(uniform: Uniform, selection: Selection) -> Uniform:
    assert selection.units is not None
    return uniform[first_of_equals(selection.units)]


BROKEN: dict[str, tuple[Callable[[], Corruptor], str]] = {
    "a special token": (
        lambda: after(with_special),
        r"corrupt\(\): an id is neither the mask token nor of the range: a special token",
    ),
    "padding": (
        lambda: after(lambda c: with_ids(c, c.selection.positions, PADDING)),
        "an id is neither the mask token nor of the range",
    ),
    "a token beyond the range": (BeyondTheRange, "an id is neither the mask token nor of the"),
    "negative ids": (
        lambda: after(lambda c: with_ids(c, c.selection.positions, -100)),
        "an id is neither the mask token nor of the range",
    ),
    "the token beside it": (lambda: after(beside_it), "a token that was not selected was changed"),
    "ids of int64": (
        lambda: after(lambda c: replace(c, ids=c.ids.astype(np.int64))),
        r"corrupt\(\): ids must be int32, not int64",
    ),
    "a list of ids": (
        lambda: after(lambda c: replace(c, ids=c.ids.tolist())),
        "ids are no array",
    ),
    "one token more": (lambda: after(one_longer), "the length has changed"),
    "the true ids": (InPlace, "the true ids were changed: change a copy"),
    "the positions": (ChangesItsSelection, "the positions of the selection were changed"),
    "the random numbers": (ChangesItsNumbers, "the random numbers were changed"),
    "changes what is not predicted": (
        lambda: after(without_half),
        "a token was changed that is not to be predicted",
    ),
    "predicts another token": (lambda: after(with_another), "unselected positions are returned"),
    "positions from the end": (
        lambda: after(reversed_selection),
        "the positions returned do not increase",
    ),
    "other groups": (lambda: after(regrouped), "groups were changed"),
    "an outside generator": (
        lambda: drawing(lambda uniform, _: GLOBAL.random(uniform.shape)),
        "the same random numbers gave something else",
    ),
    "other numbers at every call": (CountsItsCalls, "the same random numbers gave something else"),
    "one number for the batch": (
        lambda: drawing(of_first_in_batch),
        "what else a batch holds changes what a sequence becomes",
    ),
    "tokens of other sequences": (FromTheBatch, "what else a batch holds changes what a sequence"),
    "numbers of its own": (
        lambda: drawing(
            lambda uniform, _: np.stack([np.arange(len(uniform)) % 10 / 10, uniform[:, 1]], axis=1)
        ),
        "what else a batch holds changes what a sequence becomes",
    ),
    "always the mask token": (
        lambda: drawing(lambda uniform, _: uniform * 0),
        "mask_share: 0.8 is declared, but 1.000 of the selected tokens become the mask token",
    ),
    "declares too many masks": (DeclaresAll, r"mask_share: 1 is declared, but 0\.\d+ of the"),
    "declares no masks": (DeclaresNone, r"mask_share: 0 is declared, but 0\.\d+ of the selected"),
    "declares more than all": (DeclaresTooMuch, r"mask_share: .*it = 1.5: must be in \[0, 1\]"),
    "declares nothing": (DeclaresNothing, "mask_share: raised AttributeError"),
    "counts more than there are": (
        lambda: counting(lambda c: 10_000),
        "without_candidate is 10000, of",
    ),
    "counts below 0": (lambda: counting(lambda c: -1), "without_candidate is -1"),
    "counts in halves": (lambda: counting(lambda c: 0.5), "without_candidate must be a whole"),
    "counts once for a batch": (
        lambda: counting(lambda c: int((c.ids[c.selection.positions] != 4).any())),
        "without_candidate is 1 of a batch, but [23] of its sequences",
    ),
    "needs a selection": (NeedsASelection, r"corrupt\(\): raised IndexError"),
    "cannot be fitted": (CannotBeFitted, r"fit\(\): raised KeyError"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_corruptor_is_refused_by_name(name: str, words: Domain) -> None:
    build, message = BROKEN[name]
    with pytest.raises(AssertionError, match=message):
        check_corruptor(build(), words, TEXTS)


@pytest.mark.parametrize(
    "corruptor",
    [MixedCorruptor(), MixedCorruptor(0, 0, 1), Wrapped(), drawing(per_unit)],
    ids=["mixed", "keeps all", "unchanged", "per unit"],
)
def test_the_corruptors_that_they_are_made_of_are_not(corruptor: Corruptor, words: Domain) -> None:
    check_corruptor(corruptor, words, TEXTS)
