"""Which positions the selectors choose: exact amounts, whole units, honest distributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmlm.encoding import NOT_MASKABLE, Encoding, EncodingBatch
from seqmlm.errors import ConfigError
from seqmlm.masking.runs import SpanSelector
from seqmlm.masking.selectors import (
    BatchSelector,
    Selection,
    Selector,
    TokenSelector,
    UnitSelector,
)
from seqmlm.randomness import Purpose, Streams

SELECTORS = [
    pytest.param(TokenSelector(), id="token"),
    pytest.param(UnitSelector(), id="unit"),
    pytest.param(SpanSelector(), id="span"),
]
WHOLE_UNIT_SELECTORS = SELECTORS[1:]

# Unit sizes; 0 stands for a token that is never masked.
LAYOUTS = st.lists(st.integers(0, 4), max_size=30)


def encode(layout: Sequence[int]) -> Encoding:
    """One unit per positive number, of so many tokens; one unmaskable token per 0."""
    unit_ids: list[int] = []
    unit = 0
    for size in layout:
        unit_ids += [unit] * size or [NOT_MASKABLE]
        unit += size > 0
    units = np.array(unit_ids, np.int32)
    return Encoding(np.arange(len(units), dtype=np.int32), units, np.zeros_like(units))


def sizes_of(encoding: Encoding) -> np.ndarray:
    return np.bincount(encoding.unit_ids[encoding.unit_ids >= 0])


def select(selector: Selector, encoding: Encoding, budget: int, seed: int) -> Selection:
    return selector.select(encoding, sizes_of(encoding), budget, np.random.default_rng(seed))


def select_often(
    selector: BatchSelector, encoding: Encoding, budget: int, samples: int
) -> tuple[EncodingBatch, Selection]:
    """Choose in so many copies of a sequence, each with a stream of its own."""
    batch = EncodingBatch([encoding] * samples)
    streams = Streams.of(0, Purpose.OBJECTIVE, epoch=0, samples=np.arange(samples))
    costs = np.tile(sizes_of(encoding), samples)
    return batch, selector.select_in_batch(batch, costs, np.full(samples, budget), streams)


@pytest.mark.parametrize("selector", SELECTORS)
@given(layout=LAYOUTS, share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_only_maskable_tokens_are_chosen_once_and_in_order(
    selector: Selector, layout: list[int], share: float, seed: int
) -> None:
    encoding = encode(layout)
    budget = int(share * sum(layout))
    chosen = select(selector, encoding, budget, seed)
    assert chosen.positions.dtype == chosen.groups.dtype == np.int32
    assert len(chosen.positions) == len(chosen.groups)
    assert (encoding.unit_ids[chosen.positions] >= 0).all()
    assert (np.diff(chosen.positions) > 0).all()


@given(layout=LAYOUTS, budget=st.integers(0, 200), seed=st.integers(0, 2**32))
def test_tokens_fill_the_budget_exactly(layout: list[int], budget: int, seed: int) -> None:
    chosen = select(TokenSelector(), encode(layout), budget, seed)
    assert len(chosen.positions) == min(budget, sum(layout))
    assert np.array_equal(chosen.groups, chosen.positions)


@pytest.mark.parametrize("selector", WHOLE_UNIT_SELECTORS)
@given(layout=LAYOUTS, share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_units_are_chosen_whole_and_in_one_group(
    selector: Selector, layout: list[int], share: float, seed: int
) -> None:
    encoding = encode(layout)
    chosen = select(selector, encoding, int(share * sum(layout)), seed)
    units = encoding.unit_ids[chosen.positions]
    for unit in np.unique(units):
        assert (units == unit).sum() == sizes_of(encoding)[unit]
        assert len(np.unique(chosen.groups[units == unit])) == 1


@given(layout=LAYOUTS, share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_a_unit_is_a_group_of_its_own(layout: list[int], share: float, seed: int) -> None:
    encoding = encode(layout)
    chosen = select(UnitSelector(), encoding, int(share * sum(layout)), seed)
    assert np.array_equal(chosen.groups, encoding.unit_ids[chosen.positions])


@given(layout=LAYOUTS, share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_spans_are_unbroken_and_never_cross_an_unmaskable_token(
    layout: list[int], share: float, seed: int
) -> None:
    encoding = encode(layout)
    chosen = select(SpanSelector(max_units=4), encoding, int(share * sum(layout)), seed)
    for group in np.unique(chosen.groups):
        positions = chosen.positions[chosen.groups == group]
        assert np.array_equal(positions, np.arange(positions[0], positions[-1] + 1))
        assert len(np.unique(encoding.unit_ids[positions])) <= 4


@pytest.mark.parametrize("selector", SELECTORS)
@given(layout=LAYOUTS, seed=st.integers(0, 2**32))
def test_a_budget_of_everything_chooses_everything(
    selector: Selector, layout: list[int], seed: int
) -> None:
    encoding = encode(layout)
    chosen = select(selector, encoding, sum(layout), seed)
    assert np.array_equal(chosen.positions, np.flatnonzero(encoding.unit_ids >= 0))


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("layout", [[], [0], [0, 0, 0]], ids=["empty", "special", "specials"])
def test_nothing_is_chosen_where_nothing_is_maskable(selector: Selector, layout: list[int]) -> None:
    assert len(select(selector, encode(layout), 5, seed=0).positions) == 0


@pytest.mark.parametrize("selector", SELECTORS)
def test_the_same_generator_state_chooses_the_same(selector: Selector) -> None:
    encoding = encode([0, *[1, 2, 3] * 20, 0])
    first, again, other = (select(selector, encoding, 20, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.positions, again.positions)
    assert np.array_equal(first.groups, again.groups)
    assert not np.array_equal(first.positions, other.positions)


@pytest.mark.parametrize("budget", [1, 7, 20])
@pytest.mark.parametrize("selector", SELECTORS)
def test_the_expected_amount_is_the_budget(selector: BatchSelector, budget: int) -> None:
    """However the last unit or span is fitted in, and whatever the sizes of the units are."""
    encoding = encode([0, 3, 1, 4, 1, 0, 5, 2, 6, 5, 3, 0])
    batch, chosen = select_often(selector, encoding, budget, samples=1500)
    amounts = batch.count(chosen.positions)
    standard_error = np.std(amounts) / np.sqrt(len(amounts))
    assert abs(np.mean(amounts) - budget) <= 4 * standard_error


@pytest.mark.parametrize(
    ("selector", "tokens_per_unit"),
    [
        pytest.param(TokenSelector(), 1, id="token"),
        pytest.param(UnitSelector(), 3, id="unit"),
        pytest.param(SpanSelector(stop_probability=1.0), 3, id="span of one"),
    ],
)
def test_every_position_is_chosen_equally_often(
    selector: BatchSelector, tokens_per_unit: int, chi_square_p: Callable[..., float]
) -> None:
    units, chosen_units, samples = 40, 6, 2000
    encoding = encode([0, *[tokens_per_unit] * units, 0])
    budget = chosen_units * tokens_per_unit
    batch, chosen = select_often(selector, encoding, budget, samples)
    hidden = batch.unit_ids[chosen.positions[::tokens_per_unit]] % units
    counts = np.bincount(hidden, minlength=units)
    mean = samples * chosen_units / units
    assert counts.sum() == samples * chosen_units
    # Without replacement the counts vary less than in Pearson's test: by this factor.
    spread = np.sqrt((1 - chosen_units / units) * units / (units - 1))
    p = chi_square_p(mean + (counts - mean) / spread, np.full(units, mean))
    assert 1e-3 < p < 1 - 1e-3


def test_span_lengths_follow_the_truncated_geometric_law(
    chi_square_p: Callable[..., float],
) -> None:
    """SpanBERT: p = 0.2, at most 10, mean 3.8 (arXiv 1907.10529, section 3.1)."""
    encoding = encode([1] * 3000)
    observed = np.zeros(10)
    for seed in range(30):
        chosen = select(SpanSelector(), encoding, 450, seed)
        observed += np.bincount(np.bincount(chosen.groups), minlength=11)[1:]
    law = 0.2 * 0.8 ** np.arange(10)
    assert chi_square_p(observed, observed.sum() * law / law.sum()) > 1e-3
    assert observed @ np.arange(1, 11) / observed.sum() == pytest.approx(3.8, abs=0.1)


def test_a_span_starts_anywhere_equally_often(chi_square_p: Callable[..., float]) -> None:
    """Spans of 4 in 24 units are whole at 21 starts; at 3 they are cut by the end."""
    encoding = encode([1] * 24)
    selector = SpanSelector(stop_probability=1e-9, max_units=4)
    _, chosen = select_often(selector, encoding, 4, samples=6000)
    _, first, lengths = np.unique(chosen.groups, return_index=True, return_counts=True)
    starts = chosen.positions[first[lengths == 4]] % 24
    assert len(starts) > 1000
    assert chi_square_p(np.bincount(starts, minlength=21), np.full(21, len(starts) / 21)) > 1e-3


def test_a_span_is_cut_into_groups_where_units_are_not_adjacent() -> None:
    """Spans of 2 in stretches of 2: half of them begin at the second unit, and become 1 and 1.

    The pieces are more singles than asked for, so that no single is drawn: 2 groups of one unit to
    one of two.
    """
    encoding = encode([1, 1, 0] * 2000)
    selector = SpanSelector(stop_probability=1e-9, max_units=2)  # 1 or 2, equally often
    chosen = select(selector, encoding, 1600, seed=0)
    lengths = np.unique(chosen.groups, return_counts=True)[1]
    assert len(chosen.positions) in (1599, 1600, 1601)
    assert set(lengths.tolist()) == {1, 2}
    assert (lengths == 1).mean() == pytest.approx(2 / 3, abs=0.05)


@settings(max_examples=20)
@given(costs=st.lists(st.integers(1, 5), min_size=1, max_size=10), seed=st.integers(0, 99))
def test_units_may_cost_something_else_than_their_tokens(costs: list[int], seed: int) -> None:
    """A budget of all their costs takes them all."""
    encoding = encode([2] * len(costs))
    for selector in (UnitSelector(), SpanSelector()):
        chosen = selector.select(encoding, np.array(costs), sum(costs), np.random.default_rng(seed))
        assert len(chosen.positions) == 2 * len(costs)


@pytest.mark.parametrize("stop_probability", [0.0, -0.1, 1.1, float("nan")])
def test_stop_probability_out_of_range_is_refused(stop_probability: float) -> None:
    with pytest.raises(ConfigError, match=r"stop_probability = .* must be in \(0, 1\]"):
        SpanSelector(stop_probability=stop_probability)


@pytest.mark.parametrize("max_units", [0, -1, 2.5, 10**15, "3"])
def test_longest_span_must_be_a_whole_number_of_a_sane_size(max_units: int) -> None:
    with pytest.raises(ConfigError, match=r"max_units = .* whole number from 1"):
        SpanSelector(max_units=max_units)
