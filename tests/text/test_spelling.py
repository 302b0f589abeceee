"""Words of a table as they stand in running text: blanks and capital letters."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmlm.data.report import ReadReport
from seqmlm.domain import Record
from seqmlm.encoding import Encoding
from seqmlm.errors import DataError
from seqmlm.masking.policy import Masked, MaskingPolicy
from seqmlm_domains.text.domain import TextDomain

CORPUS = ["The king saw the cat. A cat! He saw her and the dog; kings bark at Tom. " * 4]
KINDS = ["bpe", "wordpiece", "unigram", "character"]


def learned(kind: str, texts: Sequence[str] = CORPUS) -> TextDomain:
    domain = TextDomain(tokenizer=kind)  # type: ignore[arg-type]
    domain.fit_tokenizer([Record("r", text, "test.txt", 1) for text in texts])
    return domain


def stored(domain: TextDomain, text: str) -> np.ndarray:
    return domain.tokenize([Record("r", text, "test.txt", 1)], ReadReport(read=1)).tokens


def hide(domain: TextDomain, encoding: Encoding, corruptor: dict[str, Any]) -> Masked:
    settings = {"rate": 1.0, "selector": {"name": "unit"}, "corruptor": corruptor}
    policy = MaskingPolicy.from_settings(settings, where="policy")
    policy.fit(domain, [stored(domain, CORPUS[0])])
    return policy.apply(
        encoding,
        vocabulary=domain.vocabulary,
        token_range=domain.vocabulary.ranges["text"],
        generator=np.random.default_rng(0),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_spelling_is_the_unit_that_it_is_in_a_text(kind: str) -> None:
    domain = learned(kind)
    plain, blank, capital, both = domain.spelled_units(["cat"])[0]
    in_text = {
        tuple(encoding.ids[encoding.unit_ids == unit].tolist())
        for encoding in map(domain.parse, ["the cat", "cat", "Cat", "a Cat"])
        for unit in range(encoding.num_units)
    }
    assert {unit for unit in (plain, blank, capital, both) if unit is not None} <= in_text
    assert plain is not None
    assert (blank is None) == (kind == "character"), "there a blank is a word of its own"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", ["a cat", "cat-dog", "", "caf\u2603e"], ids=str)
def test_what_is_not_one_word_is_no_unit(kind: str, word: str) -> None:
    assert not any(learned(kind).spelled_units([word])[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_lexicon_swaps_words_at_any_place_in_any_case(kind: str, tmp_path: Path) -> None:
    domain = learned(kind, ["The cat, Cat, the dog, Dog. cat, dog. Cat.\nDog\nCat\ndog\ncat"] * 9)
    (tmp_path / "lexicon.tsv").write_text("cat\tdog\n")
    corruptor = {"name": "counterfactual", "lexicon": str(tmp_path / "lexicon.tsv")}
    masked = hide(domain, domain.parse("Cat, dog. The Dog, cat"), corruptor)
    swapped = domain.parse("Dog, cat. The Cat, dog")
    assert domain.decode(masked.ids.tolist()) == domain.decode(swapped.ids.tolist())


def test_sets_of_synonyms_are_read_as_wordnet_has_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "synsets.tsv").write_text("noun\tcat dog\nnoun\tking monarch mother-in-law\n")
    domain = learned("character")
    shares = {"similar": 1.0, "random": 0.0, "keep": 0.0}
    table = {"table": str(tmp_path / "synsets.tsv"), "table_format": "groups"}
    with caplog.at_level(logging.INFO, "seqmlm"):
        masked = hide(domain, domain.parse("cat dog"), {"name": "similar", **table, **shares})
    text = domain.decode(masked.ids.tolist())
    assert (text[:3], text[4:]) == ("dog", "cat")
    assert masked.counts.without_candidate == 1, "the blank"
    assert "candidates of another length left out" in caplog.text


def test_words_outside_the_vocabulary_are_named_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "lexicon.tsv").write_text("cat\tdog\nking\tqueen\n")
    domain = learned("character")  # there is no q in the data
    corruptor = {"name": "counterfactual", "lexicon": str(tmp_path / "lexicon.tsv")}
    with pytest.raises(DataError, match=r"lexicon\.tsv:2: 'queen' has a part that is not in the"):
        hide(domain, domain.parse("cat"), corruptor)


@pytest.mark.parametrize("selector", ["token", "unit", "ngram", "span", "block", "scored"])
def test_a_word_longer_than_the_window_is_hidden_as_far_as_it_is_there(selector: str) -> None:
    domain = learned("character")
    encoding = domain.assemble(stored(domain, "barkbarkbark" * 5), max_length=12)
    assert encoding.num_units == 1
    settings = {"rate": 1.0, "selector": {"name": selector}}
    policy = MaskingPolicy.from_settings(settings, where="policy")
    policy.fit(domain, [stored(domain, CORPUS[0])])
    masked = policy.apply(
        encoding,
        vocabulary=domain.vocabulary,
        token_range=domain.vocabulary.ranges["text"],
        generator=np.random.default_rng(0),
    )
    assert masked.positions.tolist() == list(range(1, 11))
