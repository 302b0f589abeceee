"""What every corruptor promises; :func:`seqmlm.testing.check_corruptor` says so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from seqmlm.contract import reported
from seqmlm.domain import Domain
from seqmlm.encoding import EncodingBatch
from seqmlm.masking.arguments import check_number
from seqmlm.masking.contract_sequences import CheckedSequences
from seqmlm.masking.corruptors import Corruption, Corruptor
from seqmlm.masking.fitting import Fitted
from seqmlm.masking.runs import NgramSelector
from seqmlm.masking.selectors import Selection, Selector, UnitSelector, select_in_batch
from seqmlm.randomness import Streams

NUM_DRAWS = 400
"""Draws in each sequence, over which the share of mask tokens is averaged."""

STANDARD_ERRORS = 5.0
"""How far that average may be from the one that is declared."""

RATES = (0.0, 0.4, 1.0)

LARGEST = float(np.nextafter(1, 0))
"""The largest random number below 1."""

Uniform = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Bench:
    """A corruptor with what it is to be given, ids and random numbers aside.

    Args:
        corruptor: to be checked.
        mask_id: of the vocabulary.
        token_range: of the domain.
    """

    corruptor: Corruptor
    mask_id: int
    token_range: tuple[int, int]

    def corrupt(self, batch: EncodingBatch, selection: Selection, uniform: Uniform) -> Corruption:
        return self.corruptor.corrupt(
            batch.ids,
            selection,
            mask_id=self.mask_id,
            token_range=self.token_range,
            uniform=uniform,
        )


def check_corruptor(corruptor: Corruptor, domain: Domain, texts: Sequence[str]) -> None:
    """Hold a corruptor to its contract, on whole units and n-grams of real sequences.

    Args:
        corruptor: freshly built; one that is :class:`~seqmlm.masking.fitting.Fitted` is fitted
            here.
        domain: has its vocabulary.
        texts: at least two valid records, as :meth:`Domain.read` yields their content.

    Raises:
        AssertionError: a promise of :class:`~seqmlm.masking.corruptors.Corruptor` is broken, or
            its code raised something itself.
    """
    name = type(corruptor).__name__
    sequences = CheckedSequences.of(domain, texts)
    bench = _Bench(corruptor, domain.vocabulary.special.mask, domain.vocabulary.ranges[domain.name])
    with reported(name, "mask_share"):
        check_number("it", corruptor.mask_share)
    with reported(name, "fit()"):
        if isinstance(corruptor, Fitted):
            corruptor.fit(domain, sequences.stored)
    with reported(name, "corrupt()"):
        for selector in (UnitSelector(), NgramSelector()):
            for rate in RATES:
                _check_corruptions(bench, sequences.all, selector, rate)
    with reported(name, "mask_share"):
        _check_mask_share(bench, sequences.repeated(NUM_DRAWS))


def _selected(batch: EncodingBatch, selector: Selector, rate: float) -> Selection:
    """Some of every sequence, as a policy would give it to a corruptor."""
    costs = batch.unit_sizes
    totals = np.bincount(batch.encoding_of_unit, costs, minlength=len(batch))
    budgets = np.ceil(rate * totals).astype(np.int64)
    streams = Streams(np.arange(len(batch), dtype=np.uint64))
    selection = select_in_batch(selector, batch, costs, budgets, streams)
    return replace(selection, units=batch.unit_ids[selection.positions], batch=batch)


def _drawn(selection: Selection) -> Uniform:
    return np.random.default_rng(0).random((len(selection.positions), 2))


def _check_corruptions(
    bench: _Bench, batch: EncodingBatch, selector: Selector, rate: float
) -> None:
    selection = _selected(batch, selector, rate)
    uniform = _drawn(selection)
    given = EncodingBatch(batch.encodings), replace(selection), uniform.copy()
    corruption = bench.corrupt(*given)
    assert np.array_equal(given[0].ids, batch.ids), "the true ids were changed: change a copy"
    assert np.array_equal(given[1].positions, _selected(batch, selector, rate).positions), (
        "the positions of the selection were changed"
    )
    assert np.array_equal(given[2], uniform), "the random numbers were changed"
    _check_form(bench, batch, selection, corruption)
    again = bench.corrupt(batch, selection, uniform)
    assert _is_same(corruption, again), "the same random numbers gave something else"
    for extreme in (0.0, LARGEST):
        for columns in ([0], [1], [0, 1]):
            extremes = uniform.copy()
            extremes[:, columns] = extreme
            _check_form(bench, batch, selection, bench.corrupt(batch, selection, extremes))
    _check_alone(bench, batch, selection, uniform, corruption)


def _is_same(left: Corruption, right: Corruption) -> bool:
    return (
        np.array_equal(left.ids, right.ids)
        and np.array_equal(left.selection.positions, right.selection.positions)
        and np.array_equal(left.selection.groups, right.selection.groups)
        and left.without_candidate == right.without_candidate
    )


def _check_form(
    bench: _Bench, batch: EncodingBatch, given: Selection, corruption: Corruption
) -> None:
    """What holds for every corruption of a batch."""
    ids, left = corruption.ids, corruption.selection
    assert isinstance(ids, np.ndarray), "ids are no array"
    assert ids.dtype == np.int32, f"ids must be int32, not {ids.dtype}"
    assert ids.shape == batch.ids.shape, "the length has changed"
    changed = np.flatnonzero(ids != batch.ids)
    assert np.isin(changed, given.positions).all(), "a token that was not selected was changed"
    assert np.isin(left.positions, given.positions).all(), "unselected positions are returned"
    assert (np.diff(left.positions) > 0).all(), "the positions returned do not increase"
    of_given = np.searchsorted(given.positions, left.positions)
    assert np.array_equal(left.groups, given.groups[of_given]), "groups were changed"
    assert np.isin(changed, left.positions).all(), "a token was changed that is not to be predicted"
    low, high = bench.token_range
    new = ids[changed]
    assert ((new == bench.mask_id) | ((new >= low) & (new < high))).all(), (
        "an id is neither the mask token nor of the range: a special token, or none at all"
    )
    count = corruption.without_candidate
    assert type(count) is int, "without_candidate must be a whole number"
    most = int(np.count_nonzero(ids[given.positions] != bench.mask_id))
    assert 0 <= count <= most, (
        f"without_candidate is {count}, of {most} selected tokens that are not masked"
    )


def _check_alone(
    bench: _Bench,
    batch: EncodingBatch,
    selection: Selection,
    uniform: Uniform,
    together: Corruption,
) -> None:
    """Each sequence becomes what it becomes alone, and the counts add up."""
    owners = batch.encoding_of_token[selection.positions]
    without_candidate = 0
    for number in reversed(range(len(batch))):
        own = EncodingBatch([batch.encodings[number]])
        is_own = owners == number
        positions = selection.positions[is_own] - np.int32(batch.starts[number])
        alone = bench.corrupt(
            own,
            Selection(positions, selection.groups[is_own], own.unit_ids[positions], own),
            uniform[is_own],
        )
        start, end = batch.starts[number], batch.starts[number] + batch.lengths[number]
        assert np.array_equal(together.ids[start:end], alone.ids), (
            "what else a batch holds changes what a sequence becomes"
        )
        left = together.selection.positions
        left = left[(left >= start) & (left < end)] - start
        assert np.array_equal(left, alone.selection.positions), (
            "what else a batch holds changes what is left to be predicted"
        )
        without_candidate += alone.without_candidate
    assert without_candidate == together.without_candidate, (
        f"without_candidate is {together.without_candidate} of a batch, but "
        f"{without_candidate} of its sequences"
    )


def _check_mask_share(bench: _Bench, batch: EncodingBatch) -> None:
    """As many tokens become the mask token as is declared, and chance decides which."""
    selection = _selected(batch, UnitSelector(), 0.5)
    owners = batch.encoding_of_token[selection.positions]
    corruptions = [
        bench.corrupt(batch, selection, uniform)
        for uniform in (_drawn(selection), LARGEST - _drawn(selection))
    ]
    declared = bench.corruptor.mask_share
    masked = corruptions[0].ids[selection.positions] == bench.mask_id
    excess = np.bincount(owners, masked - declared, minlength=len(batch))
    error = STANDARD_ERRORS * float(excess.std()) * math.sqrt(len(batch)) / len(owners)
    assert abs(excess.sum()) / len(owners) <= error + 1e-9, (
        f"{declared:g} is declared, but {masked.mean():.3f} of the selected tokens become the mask "
        "token"
    )
    assert declared in (0, 1) or not _is_same(*corruptions), (
        "what becomes the mask token does not depend on the random numbers"
    )
