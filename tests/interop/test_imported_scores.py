"""Scores and embeddings of an imported ESM-2 are those of a plain loop over transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqmlm.interop.importing import import_model
from seqmlm.model.model import Model
from seqmlm_domains.protein import VariantScorer
from seqmlm_domains.protein.tokenizer import RESIDUE_RANGE, VOCABULARY
from seqmlm_domains.protein.vocabulary_file import VOCABULARY_FILE, write_vocabulary_file

transformers = pytest.importorskip("transformers")

PROTEIN = "MKTAYIAKQRQISFVKSHFS"
LOW, HIGH = RESIDUE_RANGE
MASK = VOCABULARY.special.mask


@pytest.fixture(scope="module")
def theirs() -> Any:
    torch.manual_seed(0)
    config = transformers.EsmConfig(
        vocab_size=33, pad_token_id=1, mask_token_id=32, layer_norm_eps=1e-5, hidden_size=32,
        num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, initializer_range=0.3,
        position_embedding_type="rotary", token_dropout=True, emb_layer_norm_before=False,
    )  # fmt: skip
    return transformers.EsmForMaskedLM(config).eval()


@pytest.fixture(scope="module")
def ours(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("esm")
    theirs.save_pretrained(folder)
    write_vocabulary_file(folder / VOCABULARY_FILE)
    return import_model(folder).model


def ids_of(protein: str) -> Tensor:
    special = VOCABULARY.special
    return torch.tensor([special.start, *map(VOCABULARY.id_of, protein), special.end])


@torch.no_grad()
def log_probabilities(theirs: Any, protein: str, *, hidden: tuple[int, ...] = ()) -> Tensor:
    """Among the 20 residues, at every residue of a protein, those at some sites being hidden."""
    ids = ids_of(protein)
    ids[[site + 1 for site in hidden]] = MASK
    logits: Tensor = theirs(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None]).logits
    return logits[0, 1:-1, LOW:HIGH].double().log_softmax(-1)


def masked_at(theirs: Any, protein: str, site: int, letter: str) -> float:
    found = log_probabilities(theirs, protein, hidden=(site,))
    return float(found[site, VOCABULARY.id_of(letter) - LOW])


def test_masked_marginals_are_those_of_a_loop_over_sites(theirs: Any, ours: Model) -> None:
    variants = [f"{letter}{site}W" for site, letter in enumerate(PROTEIN, start=1)]
    scores = VariantScorer(ours).score(PROTEIN, variants, method="masked-marginal").values
    expected = [
        masked_at(theirs, PROTEIN, site, "W") - masked_at(theirs, PROTEIN, site, letter)
        for site, letter in enumerate(PROTEIN)
    ]
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(scores, expected, atol=2e-5)


def test_wild_type_marginals_are_those_of_one_pass(theirs: Any, ours: Model) -> None:
    variants = [f"{letter}{site}W" for site, letter in enumerate(PROTEIN, start=1)]
    scores = VariantScorer(ours).score(PROTEIN, variants, method="wt-marginal").values
    found = log_probabilities(theirs, PROTEIN)
    own = [VOCABULARY.id_of(letter) - LOW for letter in PROTEIN]
    expected = found[:, VOCABULARY.id_of("W") - LOW] - found[range(len(own)), own]
    np.testing.assert_allclose(scores, expected, atol=2e-5)


def test_joint_masks_hide_all_sites_of_a_variant(theirs: Any, ours: Model) -> None:
    (score,) = VariantScorer(ours).score(PROTEIN, ["K2W:R10A"], method="joint-mask").values
    found = log_probabilities(theirs, PROTEIN, hidden=(1, 9))
    expected = sum(
        float(found[site, VOCABULARY.id_of(new) - LOW] - found[site, VOCABULARY.id_of(old) - LOW])
        for site, old, new in ((1, "K", "W"), (9, "R", "A"))
    )
    assert score == pytest.approx(expected, abs=2e-5)


def test_pseudo_likelihoods_are_those_of_a_loop_over_residues(theirs: Any, ours: Model) -> None:
    def pseudo_likelihood(protein: str) -> float:
        return sum(masked_at(theirs, protein, *item) for item in enumerate(protein))

    of_wild_type = pseudo_likelihood(PROTEIN)
    assert ours.pseudo_log_likelihood([PROTEIN])[0] == pytest.approx(of_wild_type, abs=1e-4)
    (score,) = VariantScorer(ours).score(PROTEIN, ["K2del"], method="pseudo-likelihood").values
    of_variant = pseudo_likelihood(PROTEIN[0] + PROTEIN[2:])
    assert score == pytest.approx(of_variant - of_wild_type, abs=2e-4)


def test_embeddings_are_the_means_of_the_last_states(theirs: Any, ours: Model) -> None:
    proteins = [PROTEIN, "MKV", PROTEIN[::-1] * 3]
    for protein, vector in zip(proteins, ours.embed(proteins), strict=True):
        ids = ids_of(protein)[None]
        with torch.no_grad():
            states = theirs.esm(input_ids=ids, attention_mask=torch.ones_like(ids))
        expected = states.last_hidden_state[0, 1:-1].mean(0)
        torch.testing.assert_close(vector, expected, rtol=0, atol=1e-5)
