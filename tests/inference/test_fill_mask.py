"""Filling masks: probabilities over the domain's tokens, best first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from seqmlm.data.packing import pack
from seqmlm.domain import Domain, build_domain
from seqmlm.errors import ConfigError, DataError
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Row

Models = Callable[..., Model]


@pytest.fixture(scope="module")
def model(words: Domain, build_model: Models) -> Model:
    return build_model(words, window=3, global_every=2)


def test_probabilities_of_all_tokens_add_up_to_one(model: Model) -> None:
    for fillings in model.fill_mask("a <mask>ord, <mask>.".replace(",", ""), top_k=26):
        assert sum(filling.probability for filling in fillings) == pytest.approx(1, abs=1e-5)
        assert len({filling.token for filling in fillings}) == 26


def test_tokens_come_best_first_and_from_the_range_alone(model: Model) -> None:
    (fillings,) = model.fill_mask("wo<mask>d", top_k=26)
    probabilities = [filling.probability for filling in fillings]
    assert probabilities == sorted(probabilities, reverse=True)
    assert {filling.token for filling in fillings} == set("abcdefghijklmnopqrstuvwxyz")


def test_fewer_tokens_are_the_first_of_more(model: Model) -> None:
    whole = model.fill_mask("<mask>x<mask>", top_k=26)
    assert model.fill_mask("<mask>x<mask>", top_k=3) == [fillings[:3] for fillings in whole]
    assert [len(fillings) for fillings in model.fill_mask("<mask>")] == [5]


def test_probabilities_are_the_softmax_of_the_scores_at_the_mask(model: Model) -> None:
    batch = pack([Row.of(model.domain.parse("ab<mask>d"))])
    with torch.no_grad():
        scores = model(batch)[3] @ model.encoder.token_embedding.weight.T + model.token_head.bias
    expected = scores[7:33].softmax(0)
    (fillings,) = model.fill_mask("ab<mask>d", top_k=26)
    for filling in fillings:
        position = model.vocabulary.id_of(filling.token) - 7
        assert filling.probability == pytest.approx(float(expected[position]), abs=1e-6)


@pytest.mark.parametrize("top_k", [0, -1, 27])
def test_more_tokens_than_there_are_cannot_be_asked_for(model: Model, top_k: int) -> None:
    with pytest.raises(ConfigError, match=f"top_k = {top_k}: must be from 1 to 26"):
        model.fill_mask("<mask>", top_k=top_k)


def test_a_text_without_a_mask_is_refused(model: Model) -> None:
    with pytest.raises(DataError, match="There is no <mask> in 'word': write it where"):
        model.fill_mask("word")


def test_faults_in_the_text_come_through(model: Model) -> None:
    with pytest.raises(DataError, match="'W' is not"):
        model.fill_mask("Wo<mask>d")


def test_proteins_are_filled_with_residues(build_model: Models) -> None:
    model = build_model(build_domain({"name": "protein"}))
    first, second = model.fill_mask("MKT<mask>YI<mask>K", top_k=20)
    assert {filling.token for filling in first} == set("LAGVSERTIDPKQNFYMHWC")
    assert first != second
