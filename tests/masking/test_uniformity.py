"""Every unit has the same chance: long or short, at the ends or in the middle of a sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from seqmlm.domain import Domain
from seqmlm.encoding import NOT_MASKABLE, Encoding, EncodingBatch
from seqmlm.masking.corruptors import MixedCorruptor
from seqmlm.masking.occurrences import OccurrencesSelector
from seqmlm.masking.policy import MaskingPolicy
from seqmlm.masking.runs import BlockSelector, NgramSelector, SpanSelector
from seqmlm.masking.scored import ScoredSelector
from seqmlm.masking.selectors import Selector, TokenSelector, UnitSelector
from seqmlm.masking.typed import TypedSelector
from seqmlm.randomness import Purpose, Streams
from seqmlm_domains.protein.tokenizer import VOCABULARY

ChiSquare = Callable[[npt.ArrayLike, npt.ArrayLike], float]

RATE = 0.15
ONLY_MASKS = MixedCorruptor(mask=1.0, random=0.0, keep=0.0)
WHOLE_UNIT_SELECTORS: dict[str, Selector] = {
    "unit": UnitSelector(),
    "span": SpanSelector(),
    "ngram": NgramSelector(),
    "block": BlockSelector(),
    "typed": TypedSelector([0]),
}

# Sizes of units; 0 stands for a token that is never masked, "|" for the border of a segment.
UNBROKEN: list[int | str] = [*[1] * 48]
BROKEN: list[int | str] = [0, *[1] * 5, 0, 1, 0, 0, 1, 1, "|", 1, 0, *[1] * 4, "|", *[1] * 9]
SIZES: list[int | str] = [*[1] * 10, 6]


def encode(layout: list[int | str]) -> Encoding:
    """Units of the sizes given, all of type 0."""
    unit_ids: list[int] = []
    segment_ids: list[int] = []
    unit = segment = 0
    for size in layout:
        if isinstance(size, str):
            segment += 1
            continue
        unit_ids += [unit] * size or [NOT_MASKABLE]
        segment_ids += [segment] * max(size, 1)
        unit += size > 0
    units = np.array(unit_ids, np.int32)
    return Encoding(
        np.full_like(units, 5),
        units,
        np.array(segment_ids, np.int32),
        unit_types=np.zeros(unit, np.int32),
    )


def chosen_units(
    selector: Selector, encoding: Encoding, *, samples: int, per: str = "token"
) -> npt.NDArray[np.bool_]:
    """Return which units are hidden in each sample, bool ``[samples, units]``."""
    policy = MaskingPolicy(selector, ONLY_MASKS, RATE, per=per)  # type: ignore[arg-type]
    batch = EncodingBatch([encoding] * samples)
    masked = policy.apply_to_batch(
        batch,
        vocabulary=VOCABULARY,
        token_range=(4, 24),
        streams=Streams.of(0, Purpose.OBJECTIVE, epoch=0, samples=np.arange(samples)),
    )
    hidden = np.zeros(samples * encoding.num_units, np.bool_)
    hidden[batch.unit_ids[masked.positions]] = True
    return hidden.reshape(samples, -1)


@pytest.fixture
def any_selector(words: Domain) -> dict[str, Selector]:
    scored = ScoredSelector(exponent=0)
    scored.fit(words, [np.array([5], np.uint8)])
    return {"token": TokenSelector(), "scored": scored, **WHOLE_UNIT_SELECTORS}


@pytest.mark.parametrize("layout", [UNBROKEN, BROKEN], ids=["unbroken", "broken"])
@pytest.mark.parametrize("name", ["token", "scored", *WHOLE_UNIT_SELECTORS])
def test_every_place_is_hidden_equally_often(
    any_selector: dict[str, Selector], name: str, layout: list[int | str], chi_square_p: ChiSquare
) -> None:
    """Runs of units once hid the first of 48 in 4.7 % of the samples and those within in 16.8 %.

    One hidden unit of each sample is looked at, because those of one run are not independent.
    """
    encoding = encode(layout)
    hidden = chosen_units(any_selector[name], encoding, samples=1_500)
    generator = np.random.default_rng(1)
    drawn = [generator.choice(np.flatnonzero(row)) for row in hidden if row.any()]
    observed = np.bincount(drawn, minlength=encoding.num_units)
    mean = np.full(encoding.num_units, len(drawn) / encoding.num_units)
    assert chi_square_p(observed, mean) > 1e-3
    assert hidden.mean() == pytest.approx(RATE, abs=0.009)


def kolmogorov_smirnov(places: npt.NDArray[np.int64], size: int) -> float:
    """Largest distance between the cumulative shares and uniform ones, times sqrt(n)."""
    shares = np.cumsum(np.bincount(places, minlength=size)) / len(places)
    distance = np.abs(shares - np.arange(1, size + 1) / size).max()
    return float(distance * np.sqrt(len(places)))


KS_CRITICAL = 1.95
"""Exceeded with a chance of 0.001 (Kolmogorov's distribution)."""


@pytest.mark.parametrize("name", ["token", "scored", *WHOLE_UNIT_SELECTORS, "occurrences"])
def test_masks_are_spread_evenly_over_a_long_row(
    any_selector: dict[str, Selector], name: str
) -> None:
    """CugLM's code masks from the left until a quota is full, so that the rest never is."""
    encoding = encode([1, 2, 3, 1, 0] * 120)
    selector = OccurrencesSelector() if name == "occurrences" else any_selector[name]
    if name == "occurrences":  # every unit its own name
        ids = np.arange(len(encoding), dtype=np.int32)
        encoding = replace(encoding, ids=ids)
    hidden = chosen_units(selector, encoding, samples=600)
    generator = np.random.default_rng(1)
    drawn = np.array([generator.choice(np.flatnonzero(row)) for row in hidden])
    assert kolmogorov_smirnov(drawn, encoding.num_units) < KS_CRITICAL


def test_masks_from_the_left_are_not_spread_evenly() -> None:
    """What the test above is to find: 10 % less of the row, at its end."""
    drawn = np.random.default_rng(0).integers(0, 432, 600)
    assert kolmogorov_smirnov(drawn, 480) > KS_CRITICAL


@pytest.mark.parametrize(
    ("name", "per"), [("unit", "unit"), *((name, "token") for name in WHOLE_UNIT_SELECTORS)]
)
def test_long_units_of_short_sequences_are_hidden_as_often_as_short_ones(
    name: str, per: str
) -> None:
    """Ten words of one token and one of six: they once had .203 and .065 at a rate of .15."""
    encoding = encode(SIZES)
    hidden = chosen_units(WHOLE_UNIT_SELECTORS[name], encoding, samples=3_000, per=per)
    # Four standard errors of one share; that of all tokens is an average of such shares.
    assert np.abs(hidden.mean(axis=0) - RATE).max() < 4 * np.sqrt(RATE * (1 - RATE) / 3_000)
    tokens = hidden @ np.array(SIZES, np.int64)
    error = tokens.std() / np.sqrt(len(tokens))
    assert abs(tokens.mean() - RATE * 16) < 4 * error


def test_types_share_the_budget_of_the_whole_sequence() -> None:
    """Units of type 1 are 4 of 16 tokens; all of them are hidden if the rate asks for more."""
    encoding = encode([1, 3, 12])
    types = np.array([1, 1, 0], np.int32)
    encoding = Encoding(encoding.ids, encoding.unit_ids, encoding.segment_ids, unit_types=types)
    hidden = chosen_units(TypedSelector([1]), encoding, samples=4_000)
    # 0.15 x 16 = 2.4 tokens of 4: either unit in 60 % of the samples.
    assert hidden.mean(axis=0) == pytest.approx([0.6, 0.6, 0.0], abs=0.035)
