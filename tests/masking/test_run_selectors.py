"""N-grams and blocks: honest length histograms, disjoint, within borders."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.encoding import Encoding, EncodingBatch
from seqmlm.errors import ConfigError
from seqmlm.masking.corruptors import Corruption
from seqmlm.masking.policy import MaskingPolicy
from seqmlm.masking.run_lengths import draw_lengths, weights_before_cuts
from seqmlm.masking.runs import BlockSelector, NgramSelector, RunSelector, SpanSelector
from seqmlm.masking.selectors import Selection
from seqmlm.randomness import Purpose, Streams
from seqmlm_domains.protein.tokenizer import VOCABULARY

ChiSquare = Callable[[npt.ArrayLike, npt.ArrayLike], float]

# Per token of a sequence: -1 never masked, else the segment it belongs to; a token is a unit.
LAYOUTS = st.lists(st.sampled_from([-1, 0, 0, 0, 1, 1]), max_size=40)


def encode(layout: list[int]) -> Encoding:
    segments = np.array(layout, np.int32)
    units = np.where(segments >= 0, np.cumsum(segments >= 0) - 1, -1).astype(np.int32)
    return Encoding(np.arange(len(units), dtype=np.int32), units, segments)


def select(selector: RunSelector, encoding: Encoding, budget: int, seed: int) -> Selection:
    costs = np.ones(encoding.num_units, np.int64)
    return selector.select(encoding, costs, budget, np.random.default_rng(seed))


def realised(
    selector: RunSelector, layout: list[int], *, sequences: int, rate: float = 0.15
) -> tuple[npt.NDArray[np.int64], float]:
    """Number of groups of each length in copies of a sequence, and the share of units in them."""
    policy = MaskingPolicy(selector, corruptor=_Nothing(), rate=rate)
    batch = EncodingBatch([encode(layout)] * sequences)
    masked = policy.apply_to_batch(
        batch,
        vocabulary=VOCABULARY,
        token_range=(4, 24),
        streams=Streams.of(0, Purpose.OBJECTIVE, epoch=0, samples=np.arange(sequences)),
    )
    lengths = np.unique(masked.groups, return_counts=True)[1]
    counts = np.bincount(lengths, minlength=len(selector.shares) + 1)[1:]
    assert len(counts) == len(selector.shares)
    assert masked.counts.runs[: len(counts)] == tuple(counts)
    assert masked.counts.units_in_runs == len(masked.positions)
    return counts, len(masked.positions) / batch.num_units.sum()


MACBERT = np.array([0.4, 0.3, 0.2, 0.1])
GEOMETRIC = 0.2 * 0.8 ** np.arange(10)
SHARES = {
    "ngram": (NgramSelector(), MACBERT),
    "block": (BlockSelector(), np.array([0.6, *[0.08] * 5])),
    "span": (SpanSelector(), GEOMETRIC / GEOMETRIC.sum()),
}


class _Nothing:
    mask_share = 0.0

    def corrupt(self, ids: np.ndarray, selection: Selection, **options: object) -> Corruption:
        return Corruption(ids.copy(), selection)


@pytest.mark.parametrize("units", [16, 32, 128, 512])
@pytest.mark.parametrize("name", SHARES)
def test_lengths_have_the_shares_asked_for_in_rows_of_any_length(
    name: str, units: int, chi_square_p: ChiSquare
) -> None:
    """In rows of 128 units 1- to 4-grams once had .41/.30/.19/.09, in rows of 10 .59/.27/.11/.03.

    Whether a run is taken depends on those before it alone, so that the counts vary around the
    shares of their sum as independent draws would.
    """
    selector, shares = SHARES[name]
    counts, rate = realised(selector, [0] * units, sequences=200_000 // units)
    assert counts.sum() > 6_000
    assert chi_square_p(counts, counts.sum() * shares) > 1e-3
    assert rate == pytest.approx(0.15, abs=0.003)


@pytest.mark.parametrize(
    "layout",
    [[0] * 4, [0] * 4 + [-1] + [0] * 4, [0, -1, 0, 0, -1, *[0] * 20, *[1] * 17], [0] * 5 + [1] * 9],
    ids=["4 units", "fours", "a few breaks", "segments"],
)
def test_lengths_have_their_shares_in_short_and_broken_rows(
    layout: list[int], chi_square_p: ChiSquare
) -> None:
    counts, rate = realised(NgramSelector(), layout, sequences=20_000)
    assert chi_square_p(counts, counts.sum() * MACBERT) > 1e-3
    assert rate == pytest.approx(0.15, abs=0.006)


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.8])
def test_lengths_have_their_shares_at_high_rates(rate: float, chi_square_p: ChiSquare) -> None:
    counts, realised_rate = realised(NgramSelector(), [0] * 40, sequences=4_000, rate=rate)
    assert chi_square_p(counts, counts.sum() * MACBERT) > 1e-3
    assert realised_rate == pytest.approx(rate, abs=0.003)


def test_lengths_that_fit_nowhere_count_as_the_longest_that_fits(chi_square_p: ChiSquare) -> None:
    """Stretches of 3: of the shares .4/.3/.2/.1 the last two are those of 3-grams."""
    counts, rate = realised(NgramSelector(), [0, 0, 0], sequences=60_000)
    assert counts[3] == 0
    assert chi_square_p(counts[:3], counts.sum() * np.array([0.4, 0.3, 0.3])) > 1e-3
    assert rate == pytest.approx(0.15, abs=0.006)


def test_spans_have_the_mean_of_their_law() -> None:
    """SpanBERT's 1 to 10 with p = 0.2: 3.8 (arXiv 1907.10529, section 3.1)."""
    counts, _ = realised(SpanSelector(), [0] * 32, sequences=10_000)
    assert counts @ np.arange(1, 11) / counts.sum() == pytest.approx(3.8, abs=0.04)


def pieces_of(sizes: list[int], start: int, length: int) -> list[int]:
    """Lengths of the parts of a run on the ring of some stretches, by walking along it."""
    units = sum(sizes)
    stretch_of_unit = np.repeat(np.arange(len(sizes)), sizes)
    pieces: list[int] = []
    for step in range(length):
        unit = (start + step) % units
        goes_on = step and unit and stretch_of_unit[unit] == stretch_of_unit[unit - 1]
        # A run around the whole ring has no end where it begins.
        if goes_on or (length == units == sizes[0] and pieces):
            pieces[-1] += 1
        else:
            pieces.append(1)
    return pieces


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    parts=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any),
)
def test_pieces_have_the_shares_asked_for(sizes: list[int], parts: list[int]) -> None:
    """Every place of every length is counted; what fits nowhere counts as the longest that does."""
    shares = np.array(parts) / sum(parts)
    (weights,) = weights_before_cuts(
        shares, np.array([sum(sizes)]), np.zeros(len(sizes), np.int64), np.array(sizes)
    )
    expected = np.zeros(len(weights))
    for length, weight in enumerate(weights, start=1):
        for start in range(sum(sizes) if weight else 0):
            np.add.at(expected, np.array(pieces_of(sizes, start, length)) - 1, weight)
    asked = shares[: len(weights)].copy()
    asked[-1] += shares[len(weights) :].sum()
    assert weights.any()
    assert expected[weights > 0] == pytest.approx(asked[weights > 0])
    assert (expected[weights == 0] >= asked[weights == 0] - 1e-9).all()


@given(
    rows=st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1)), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_runs_add_up_to_the_budget_give_or_take_less_than_the_longest(
    rows: list[tuple[int, float]], seed: int
) -> None:
    units = np.array([size for size, _ in rows])
    numbers = np.array([int(share * size) for size, share in rows])
    weights = np.tile([0.4, 0.3, 0.2, 0.1], (len(rows), 1))
    streams = Streams.of(seed, Purpose.OBJECTIVE, epoch=0, samples=np.arange(len(rows)))
    sequences, lengths = draw_lengths(weights, numbers, units, streams)
    assert (lengths >= 1).all()
    assert (lengths <= 4).all()
    sums = np.bincount(sequences, lengths, minlength=len(rows))
    has_room = numbers + 3 <= units
    assert (sums <= units).all()
    assert (np.abs(sums - numbers)[has_room] < 4).all()
    assert (sums == numbers)[~has_room].all()


@given(layout=LAYOUTS, share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_ngrams_are_disjoint_and_within_one_segment(
    layout: list[int], share: float, seed: int
) -> None:
    encoding = encode(layout)
    chosen = select(NgramSelector(), encoding, int(share * encoding.num_units), seed)
    assert len(np.unique(chosen.positions)) == len(chosen.positions)
    for group in np.unique(chosen.groups):
        positions = chosen.positions[chosen.groups == group]
        assert len(positions) <= 4
        assert np.array_equal(positions, np.arange(positions[0], positions[-1] + 1))
        assert len(np.unique(encoding.segment_ids[positions])) == 1


@pytest.mark.parametrize("seed", range(5))
def test_ngrams_longer_than_the_document_are_shortened(seed: int) -> None:
    chosen = select(NgramSelector([0, 0, 0, 1.0]), encode([0, 0, -1]), 2, seed=seed)
    assert chosen.positions.tolist() == [0, 1]
    assert len(set(chosen.groups.tolist())) == 1


@pytest.mark.parametrize("p", [[], [0.5, 0.4], [1.5, -0.5]], ids=["none", "sum", "negative"])
def test_ngram_shares_must_add_up(p: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"ngram selector: p = .*add up to 1"):
        NgramSelector(p)


@pytest.mark.parametrize(
    "options", [{"single": 1.1}, {"single": -0.1}, {"longest": 1}, {"longest": 2.5}]
)
def test_block_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"block selector: {next(iter(options))} ="):
        BlockSelector(**options)  # type: ignore[arg-type]
