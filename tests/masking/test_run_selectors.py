"""N-grams and blocks: honest length histograms, disjoint, within borders."""

from __future__ import annotations

from collections import Counter
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
from seqmlm.masking.runs import BlockSelector, NgramSelector, RunSelector
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


def histogram(selector: RunSelector, *, units: int, sequences: int) -> tuple[Counter[int], float]:
    """Lengths of the chosen runs at 15 %, and the realised rate."""
    policy = MaskingPolicy(selector, corruptor=_Nothing(), rate=0.15)
    masked = policy.apply_to_batch(
        EncodingBatch([encode([0] * units)] * sequences),
        vocabulary=VOCABULARY,
        token_range=(4, 24),
        streams=Streams.of(0, Purpose.OBJECTIVE, epoch=0, samples=np.arange(sequences)),
    )
    lengths = Counter(np.unique(masked.groups, return_counts=True)[1].tolist())
    return lengths, len(masked.positions) / (units * sequences)


class _Nothing:
    mask_share = 0.0

    def corrupt(self, ids: np.ndarray, selection: Selection, **options: object) -> Corruption:
        return Corruption(ids.copy(), selection)


def test_ngram_lengths_have_the_shares_of_macbert(chi_square_p: ChiSquare) -> None:
    lengths, rate = histogram(NgramSelector(), units=512, sequences=300)
    total = lengths.total()
    assert sorted(lengths) == [1, 2, 3, 4]
    expected = total * np.array([0.4, 0.3, 0.2, 0.1])
    assert chi_square_p([lengths[n] for n in (1, 2, 3, 4)], expected) > 1e-3
    assert total > 10_000
    assert rate == pytest.approx(0.15, abs=0.001)


def test_block_lengths_are_60_percent_single_and_the_rest_even(chi_square_p: ChiSquare) -> None:
    lengths, rate = histogram(BlockSelector(), units=512, sequences=300)
    total = lengths.total()
    assert sorted(lengths) == [1, 2, 3, 4, 5, 6]
    expected = total * np.array([0.6, *[0.08] * 5])
    assert chi_square_p([lengths[n] for n in range(1, 7)], expected) > 1e-3
    assert rate == pytest.approx(0.15, abs=0.001)


SHARES = {
    10: (0.59, 0.27, 0.11, 0.03),
    20: (0.49, 0.30, 0.16, 0.05),
    40: (0.45, 0.30, 0.17, 0.08),
    128: (0.41, 0.30, 0.19, 0.09),
}


@pytest.mark.parametrize("units", SHARES)
def test_shares_in_short_sequences_are_those_of_the_documentation(units: int) -> None:
    """See :class:`RunSelector`; cuts and the budget's end make n-grams shorter."""
    lengths, rate = histogram(NgramSelector(), units=units, sequences=60_000 // units)
    shares = np.array([lengths[n] for n in (1, 2, 3, 4)]) / lengths.total()
    assert np.abs(shares - SHARES[units]).max() < 0.03
    assert rate == pytest.approx(0.15, abs=0.006)


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
