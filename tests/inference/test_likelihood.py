"""Pseudo-log-likelihoods against a loop that masks one token at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from seqmlm.data.packing import pack
from seqmlm.domain import Domain
from seqmlm.inference.likelihood import score_encoding
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Row

Models = Callable[..., Model]
TEXTS = ["some. text", "a", "the quick brown fox jumps", "x y z"]


@pytest.fixture(scope="module")
def model(words: Domain, build_model: Models) -> Model:
    return build_model(words, token_dropout=True, mask_token_rate=0.12)


def by_hand(model: Model, text: str) -> list[float]:
    """Mask each letter alone, one forward pass of one row each, softmax over the 26 letters."""
    encoding = model.domain.parse(text)
    scores = []
    for position, (true, unit) in enumerate(zip(encoding.ids, encoding.unit_ids, strict=True)):
        if unit < 0:
            continue
        ids = encoding.ids.copy()
        ids[position] = model.vocabulary.special.mask
        with torch.no_grad():
            hidden = model(pack([Row.of(encoding, ids)]))[position]
            logits = model.encoder.token_embedding.weight @ hidden + model.token_head.bias
        scores.append(float(logits[7:33].log_softmax(0)[true - 7]))
    return scores


def test_pseudo_log_likelihood_equals_a_loop_over_single_masks(model: Model) -> None:
    found = model.pseudo_log_likelihood(TEXTS)
    expected = [sum(by_hand(model, text)) for text in TEXTS]
    assert found == pytest.approx(expected, abs=1e-4)
    score = score_encoding(model, model.domain.parse(TEXTS[0]), tokens_per_batch=100)
    assert score.token_log_likelihoods == pytest.approx(by_hand(model, TEXTS[0]), abs=1e-5)


@pytest.mark.parametrize("tokens_per_batch", [1, 30, 8192])
def test_scores_do_not_depend_on_the_batch(model: Model, tokens_per_batch: int) -> None:
    expected = [model.pseudo_log_likelihood([text])[0] for text in TEXTS]
    found = model.pseudo_log_likelihood(TEXTS, tokens_per_batch=tokens_per_batch)
    assert found == pytest.approx(expected, abs=1e-5)


def test_perplexity_is_the_exponential_of_the_mean(model: Model) -> None:
    (total,), (perplexity,) = (
        model.pseudo_log_likelihood(["the fox"]),
        model.pseudo_perplexity(["the fox"]),
    )
    assert perplexity == pytest.approx(math.exp(-total / 6))


@pytest.mark.parametrize("text", ["", ". .", "<mask>"], ids=["empty", "marks", "mask"])
def test_texts_without_a_scored_token_have_no_perplexity(model: Model, text: str) -> None:
    assert model.pseudo_log_likelihood([text]) == [0.0]
    assert math.isnan(model.pseudo_perplexity([text])[0])


def test_no_texts_give_no_scores(model: Model) -> None:
    assert model.pseudo_log_likelihood([]) == []


def test_mask_tokens_in_the_text_stay_hidden_and_are_not_scored(model: Model) -> None:
    encoding = model.domain.parse("ab<mask>d")
    assert len(score_encoding(model, encoding, tokens_per_batch=100).token_log_likelihoods) == 3
    assert np.array_equal(encoding.ids, model.domain.parse("ab<mask>d").ids)
