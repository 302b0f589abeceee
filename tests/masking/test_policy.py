"""Selector x corruptor x budget over whole sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.domain import Domain
from seqmlm.encoding import Encoding, EncodingBatch
from seqmlm.errors import ConfigError, UnknownNameError
from seqmlm.masking.corruptors import MixedCorruptor
from seqmlm.masking.policy import UNIFORM_MASKS, Masked, MaskingPolicy
from seqmlm.masking.runs import SpanSelector
from seqmlm.masking.selectors import TokenSelector, UnitSelector
from seqmlm.randomness import Purpose, Streams
from seqmlm.registry import SELECTORS
from seqmlm_domains.protein.tokenizer import RESIDUE_RANGE, VOCABULARY

WHERE = "objectives.mlm.policy"


def policy(**settings: Any) -> MaskingPolicy:
    return MaskingPolicy.from_settings(settings, WHERE)


def proteins(length: int, seed: int = 0) -> Encoding:
    """A residue a token; every tenth one an X, which is never masked."""
    ids = np.random.default_rng(seed).integers(*RESIDUE_RANGE, size=length, dtype=np.int32)
    ids[::10] = VOCABULARY.id_of("X")
    ids[[0, -1]] = VOCABULARY.special.start, VOCABULARY.special.end
    maskable = ids >= RESIDUE_RANGE[0]
    maskable &= ids < RESIDUE_RANGE[1]
    units = np.where(maskable, np.cumsum(maskable) - 1, -1).astype(np.int32)
    return Encoding(ids, units, np.zeros_like(ids))


def apply(chosen: MaskingPolicy, encoding: Encoding, seed: int = 0) -> Masked:
    return chosen.apply(
        encoding,
        vocabulary=VOCABULARY,
        token_range=RESIDUE_RANGE,
        generator=np.random.default_rng(seed),
    )


def hidden_often(
    chosen: MaskingPolicy, domain: Domain | None, encoding: Encoding, samples: int
) -> npt.NDArray[np.int64]:
    """How many tokens are hidden in each of so many copies of a sequence, of residues or words."""
    batch = EncodingBatch([encoding] * samples)
    masked = chosen.apply_to_batch(
        batch,
        vocabulary=VOCABULARY if domain is None else domain.vocabulary,
        token_range=RESIDUE_RANGE if domain is None else domain.vocabulary.ranges["words"],
        streams=Streams.of(0, Purpose.OBJECTIVE, epoch=0, samples=np.arange(samples)),
    )
    return batch.count(masked.positions)


def test_bert_policy_holds_over_100_000_ids() -> None:
    """objectives.md 1, row 1."""
    encoding = proteins(100_000)
    masked = apply(policy(), encoding)
    maskable = encoding.unit_ids >= 0
    true, seen = encoding.ids[masked.positions], masked.ids[masked.positions]
    assert len(masked.positions) / maskable.sum() == pytest.approx(0.15, abs=0.005)
    assert (seen == VOCABULARY.special.mask).mean() == pytest.approx(0.8, abs=0.01)
    # One random residue in 20 is the true one: 10 % - 0.5 % differ, 10 % + 0.5 % are the same.
    replaced = (seen != VOCABULARY.special.mask) & (seen != true)
    assert replaced.mean() == pytest.approx(0.095, abs=0.01)
    assert (seen == true).mean() == pytest.approx(0.105, abs=0.01)
    assert maskable[masked.positions].all()
    assert (seen[replaced] >= RESIDUE_RANGE[0]).all()
    assert (seen[replaced] < RESIDUE_RANGE[1]).all()
    untouched = np.ones(len(encoding), np.bool_)
    untouched[masked.positions] = False
    assert np.array_equal(masked.ids[untouched], encoding.ids[untouched])


@pytest.mark.parametrize("selector", ["token", "unit", "span"])
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_the_expected_share_is_the_rate_for_short_sequences_too(selector: str, rate: float) -> None:
    """7 maskable residues: rounding up or down at random keeps the mean exact."""
    encoding = proteins(10)
    chosen = policy(rate=rate, selector={"name": selector})
    amounts = hidden_often(chosen, None, encoding, samples=1500)
    expected = rate * encoding.num_units
    assert abs(np.mean(amounts) - expected) <= 4 * np.std(amounts) / np.sqrt(len(amounts))
    assert set(amounts.tolist()) <= set(range(encoding.num_units + 1))


@pytest.mark.parametrize("per", ["token", "unit"])
def test_the_rate_is_a_share_of_tokens_or_of_units(words: Domain, per: str) -> None:
    """14 letters in 3 words: half of them are 7 letters, or 1.5 words."""
    encoding = words.parse("i went elsewhere")
    chosen = policy(rate=0.5, per=per, selector={"name": "unit"})
    samples = [apply_words(chosen, words, encoding, seed) for seed in range(1500)]
    tokens = [len(masked.positions) for masked in samples]
    units = [len(np.unique(encoding.unit_ids[masked.positions])) for masked in samples]
    counted, expected = (tokens, 7.0) if per == "token" else (units, 1.5)
    assert encoding.num_units == 3
    assert (encoding.unit_ids >= 0).sum() == 14
    assert abs(np.mean(counted) - expected) <= 4 * np.std(counted) / np.sqrt(len(counted))


def apply_words(chosen: MaskingPolicy, words: Domain, encoding: Encoding, seed: int) -> Masked:
    return chosen.apply(
        encoding,
        vocabulary=words.vocabulary,
        token_range=words.vocabulary.ranges["words"],
        generator=np.random.default_rng(seed),
    )


@given(seed=st.integers(0, 2**32), rate=st.floats(0.01, 1))
def test_a_word_is_hidden_whole_and_treated_alike(words: Domain, seed: int, rate: float) -> None:
    """mask = random = keep: with per = "group" the letters of a word share one fate."""
    encoding = words.parse("whole word masking. hides all of a word.")
    chosen = MaskingPolicy(
        UnitSelector(), MixedCorruptor(mask=0.5, random=0, keep=0.5, per="group"), rate
    )
    masked = apply_words(chosen, words, encoding, seed)
    hidden = np.isin(np.arange(len(encoding)), masked.positions)
    for unit in range(encoding.num_units):
        of_unit = encoding.unit_ids == unit
        assert len(np.unique(hidden[of_unit])) == 1
        assert len(np.unique(masked.ids[of_unit] == words.vocabulary.special.mask)) == 1


@pytest.mark.parametrize(
    "selector",
    [
        {"name": "ngram", "p": [0, 0, 0, 1]},
        {"name": "span"},
        {"name": "block"},
        {"name": "occurrences"},
        {"name": "token"},
    ],
    ids=lambda selector: selector["name"],
)
def test_each_word_of_what_was_chosen_together_draws_its_own_fate(
    words: Domain, selector: dict[str, Any]
) -> None:
    """Once there was one draw for the whole of a 4-gram, or one for each of its tokens."""
    units = np.repeat(np.arange(800, dtype=np.int32), np.tile([3, 2, 3, 4], 200))
    names = (units % 4) % 3  # the first and the third of four units are the same name
    encoding = Encoding((7 + names).astype(np.int32), units, np.zeros_like(units))
    corruptor = {"name": "mixed", "mask": 0.5, "random": 0, "keep": 0.5, "per": "unit"}
    chosen = policy(rate=0.5, selector=selector, corruptor=corruptor)
    masked = apply_words(chosen, words, encoding, seed=0)
    hidden = units[masked.positions]
    is_mask = masked.ids[masked.positions] == words.vocabulary.special.mask
    tokens = np.bincount(hidden, minlength=800)
    masks = np.bincount(hidden, weights=is_mask, minlength=800)
    assert ((masks == 0) | (masks == tokens)).all()
    assert masks.sum() / tokens.sum() == pytest.approx(0.5, abs=0.1)
    in_group = [is_mask[masked.groups == group] for group in np.unique(masked.groups)]
    are_mixed = any(group.any() and not group.all() for group in in_group)
    assert are_mixed == (selector["name"] != "token")


@pytest.mark.parametrize("selector", ["token", "unit", "span"])
def test_rate_one_hides_everything_that_may_be_hidden(words: Domain, selector: str) -> None:
    encoding = words.parse("all. of it")
    chosen = policy(rate=1.0, selector={"name": selector}, corruptor=only_masks())
    masked = apply_words(chosen, words, encoding, seed=0)
    assert words.decode(masked.ids.tolist()) == "<mask>" * 3 + ". " + "<mask>" * 2 + " " + (
        "<mask>" * 2
    )


def only_masks() -> dict[str, Any]:
    return {"name": "mixed", "mask": 1.0, "random": 0.0, "keep": 0.0}


@pytest.mark.parametrize("selector", ["token", "unit", "span"])
@pytest.mark.parametrize("text", [".", " ", ""], ids=["dot", "blank", "empty"])
def test_a_sequence_without_maskable_tokens_stays_as_it_is(
    words: Domain, selector: str, text: str
) -> None:
    encoding = words.parse(text)
    masked = apply_words(policy(rate=1.0, selector={"name": selector}), words, encoding, 0)
    assert np.array_equal(masked.ids, encoding.ids)
    assert len(masked.positions) == 0


@pytest.mark.parametrize("selector", ["token", "unit", "span"])
def test_one_token_is_hidden_as_often_as_the_rate_says(words: Domain, selector: str) -> None:
    encoding = words.parse("a")
    chosen = policy(rate=0.15, selector={"name": selector})
    hidden = hidden_often(chosen, words, encoding, samples=2000)
    assert set(hidden.tolist()) == {0, 1}
    assert np.mean(hidden) == pytest.approx(0.15, abs=0.03)


@pytest.mark.parametrize("selector", ["token", "unit", "span"])
def test_the_same_generator_state_hides_the_same(selector: str) -> None:
    encoding, chosen = proteins(300), policy(selector={"name": selector})
    first, again, other = (apply(chosen, encoding, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.ids, again.ids)
    assert np.array_equal(first.positions, again.positions)
    assert not np.array_equal(first.positions, other.positions)


def test_validation_masks_a_uniform_15_percent_with_the_mask_token_alone() -> None:
    encoding = proteins(20_000)
    masked = apply(UNIFORM_MASKS, encoding)
    assert (masked.ids[masked.positions] == VOCABULARY.special.mask).all()
    assert len(masked.positions) == pytest.approx(0.15 * encoding.num_units, abs=1)
    assert UNIFORM_MASKS.mask_token_rate == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, 0.12), ({"rate": 0.4}, 0.32), ({"rate": 0.4, "corruptor": only_masks()}, 0.4)],
    ids=["bert", "40 %", "40 % masks"],
)
def test_the_share_of_mask_tokens_is_rate_times_mask(
    settings: dict[str, Any], expected: float
) -> None:
    assert policy(**settings).mask_token_rate == pytest.approx(expected)


def test_settings_reach_selector_and_corruptor() -> None:
    built = policy(
        rate=0.3,
        per="unit",
        selector={"name": "span", "stop_probability": 0.5, "max_units": 3},
        corruptor=only_masks(),
    )
    assert isinstance(built.selector, SpanSelector)
    assert built.corruptor.mask_share == 1.0
    assert (built.rate, built.per) == (0.3, "unit")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rte": 0.3}, r"policy\.rte: unknown key\. Did you mean 'rate'\?"),
        ({"rate": 0.0}, r"rate = 0\.0: must be a number in \(0, 1\]"),
        ({"rate": 1.01}, r"rate = 1\.01: must be a number in \(0, 1\]"),
        ({"rate": float("nan")}, r"rate = nan: must be a number in \(0, 1\]"),
        ({"rate": "high"}, r"policy: rate = 'high': must be a number in \(0, 1\]"),
        ({"rate": True}, r"rate = True: must be a number in \(0, 1\]"),
        ({"rate": None}, r"rate = None: must be a number in \(0, 1\]"),
        ({"predict_rate": "low"}, r"predict_rate = 'low': must be a number in \(0, 1\]"),
        ({"per": "word"}, "per = 'word': it is 'token' or 'unit'"),
        ({"per": "unit"}, "choose selector 'unit' instead"),
        ({"selector": "span"}, r"policy\.selector = 'span': it must be a table with the name"),
        ({"selector": {}}, r"policy\.selector = \{\}: it must be a table with the name"),
        ({"selector": {"name": 5}}, "it must be a table with the name of a selector"),
        ({"selector": {"name": "spam"}}, "no selector called 'spam'. Did you mean 'span'"),
        ({"selector": {"name": "span", "max_unit": 3}}, r"selector\.max_unit.*'max_units'"),
        ({"selector": {"name": "token", "rate": 0.3}}, r"selector\.rate.*It takes: none"),
        ({"selector": {"name": "scored", "scores": 5}}, "scored selector: scores = 5: it is"),
        ({"selector": {"name": "scored", "scores": "model_entropy", "model": 5}}, "model = 5"),
        ({"corruptor": {"name": "similar", "table": 5}}, "table = 5: it is 'domain'"),
        ({"corruptor": {"name": "counterfactual", "lexicon": 5}}, "lexicon = 5: it is the path"),
        ({"corruptor": {"name": "mixd"}}, "no corruptor called 'mixd'. Did you mean 'mixed'"),
        ({"corruptor": {"name": "mixed", "mask": "x"}}, "mask = 'x', random = 0.1"),
        ({"corruptor": {"name": "mixed", "mask": 0.5}}, "add up to 1"),
    ],
    ids=str,
)
def test_unusable_settings_are_refused_with_their_path(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        policy(**settings)


def test_settings_that_are_no_table_are_refused() -> None:
    """`--set objectives.0.policy=0.3` ended in a traceback once."""
    with pytest.raises(ConfigError, match=r"objectives.mlm.policy = 0.3: it must be a table"):
        MaskingPolicy.from_settings(0.3, WHERE)  # type: ignore[arg-type]


def test_unknown_selectors_name_what_there_is() -> None:
    with pytest.raises(UnknownNameError) as error:
        policy(selector={"name": "whole-word"})
    assert error.value.available == SELECTORS.names()
    assert isinstance(policy().selector, TokenSelector)
