"""Masked language modelling: what is asked, of whom, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.data.packing import pack
from seqmlm.domain import Domain, build_domain
from seqmlm.errors import ConfigError
from seqmlm.model.model import Model
from seqmlm.objectives.mlm import MaskedLanguageModelling
from seqmlm.objectives.rows import Row
from seqmlm.registry import OBJECTIVES
from seqmlm.vocabulary import AllowedTokens

Models = Callable[..., Model]
TEXTS = st.text("ab z.", min_size=0, max_size=20)


def rows(objective: MaskedLanguageModelling, domain: Domain, *texts: str) -> list[Row]:
    return [
        row
        for seed, text in enumerate(texts)
        for row in objective.rows(domain.parse(text), np.random.default_rng(seed))
    ]


@given(text=TEXTS, rate=st.floats(0.05, 1), seed=st.integers(0, 2**32))
def test_labels_are_the_true_tokens_and_stand_only_where_tokens_were_selected(
    words: Domain, text: str, rate: float, seed: int
) -> None:
    encoding = words.parse(text)
    objective = MaskedLanguageModelling(words, {"rate": rate})
    (row,) = objective.rows(encoding, np.random.default_rng(seed))
    targets = row.targets["mlm"]
    assert np.array_equal(targets.labels, encoding.ids[targets.positions])
    assert (encoding.unit_ids[targets.positions] >= 0).all()
    others = np.setdiff1d(np.arange(len(encoding)), targets.positions)
    assert np.array_equal(row.ids[others], encoding.ids[others])
    assert row.visibility is None


def test_only_tokens_of_the_own_range_may_be_predicted(words: Domain) -> None:
    (row,) = rows(MaskedLanguageModelling(words), words, "abc")
    allowed = row.targets["mlm"].allowed
    assert isinstance(allowed, AllowedTokens)
    assert np.flatnonzero(allowed.mask()).tolist() == list(range(7, 33))


def test_all_rows_share_one_set_of_allowed_tokens(words: Domain) -> None:
    """One set for a whole batch keeps the masked softmax on its fast path."""
    batch = pack(rows(MaskedLanguageModelling(words), words, "abc", "some more"))
    targets = batch.targets_for("mlm")
    assert targets.allowed is not None
    assert targets.allowed.shape == (1, 2)
    assert targets.allowed_index is None


def test_the_loss_is_the_cross_entropy_over_the_20_residues_alone(build_model: Models) -> None:
    """By hand: softmax over ids 4 to 23 of hidden x embedding + bias, nats, summed."""
    domain = build_domain({"name": "protein"})
    model = build_model(domain)
    objective = MaskedLanguageModelling(domain, {"rate": 0.5})
    batch = pack(rows(objective, domain, "MKTAYIAKQR", "ACDEFGHIKLMNPQRSTVWY"))
    hidden = model(batch)
    found = objective.loss(model, hidden, batch)
    targets = batch.targets["mlm"]
    scores = hidden[targets.rows] @ model.encoder.token_embedding.weight.T + model.token_head.bias
    residues = scores[:, 4:24].exp()
    probabilities = residues[torch.arange(len(residues)), targets.labels - 4] / residues.sum(1)
    torch.testing.assert_close(found.total, -probabilities.log().sum(), rtol=1e-5, atol=0)
    assert float(found.count) == len(targets.rows) == objective.count(batch) > 0


def test_kept_and_random_tokens_are_scored_too(words: Domain) -> None:
    """BERT's loss runs over all selected positions (objectives.md 2, item 1)."""
    policy = {"rate": 1.0, "corruptor": {"name": "mixed", "mask": 0, "random": 0.5, "keep": 0.5}}
    objective = MaskedLanguageModelling(words, policy)
    batch = pack(rows(objective, words, "abcdef"))
    assert objective.count(batch) == 6


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize(
    "options", [{}, {"token_dropout": True, "window": 2}], ids=["plain", "all"]
)
def test_a_batch_without_rows_has_loss_zero_and_a_gradient_for_every_parameter(
    words: Domain, build_model: Models, backend: str, options: dict[str, object]
) -> None:
    """A rank that was dealt no record must take part in the backward pass all the same."""
    model = build_model(words, backend=backend, head_transform=True, **options)
    objective = MaskedLanguageModelling(words)
    batch = pack([])
    found = objective.loss(model, model(batch), batch)
    assert (found.total.item(), found.count.item(), objective.count(batch)) == (0, 0, 0)
    found.total.backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_rows_without_a_target_have_loss_zero(words: Domain, build_model: Models) -> None:
    model, objective = build_model(words), MaskedLanguageModelling(words)
    batch = pack(rows(objective, words, "", ". ."))
    assert objective.loss(model, model(batch), batch).total.item() == 0
    assert objective.count(batch) == 0


def test_weights_scale_the_loss_and_its_count(words: Domain, build_model: Models) -> None:
    model, objective = build_model(words), MaskedLanguageModelling(words, {"rate": 1.0})
    (row,) = rows(objective, words, "abcd")
    weights = np.array([0.5, 0, 2, 1], np.float32)
    weighted = replace(row, targets={"mlm": replace(row.targets["mlm"], weights=weights)})
    batch = pack([weighted])
    targets = batch.targets["mlm"]
    each = model.token_head.loss(
        model(batch), targets.rows, targets.labels, allowed=targets.allowed
    )
    found = objective.loss(model, model(batch), batch)
    torch.testing.assert_close(found.total, (each * torch.from_numpy(weights)).sum())
    assert float(found.count) == objective.count(batch) == 3.5


def test_mask_token_rate_comes_from_the_policy(words: Domain) -> None:
    assert MaskedLanguageModelling(words).mask_token_rate == pytest.approx(0.15 * 0.8)
    assert MaskedLanguageModelling(words, {"rate": 0.4}).mask_token_rate == pytest.approx(0.32)


def test_faults_in_the_policy_name_its_place_in_the_configuration(words: Domain) -> None:
    with pytest.raises(ConfigError, match=r"^objectives\.0\.policy\.rte: unknown key"):
        OBJECTIVES.build({"name": "mlm", "policy": {"rte": 1}}, words, where="objectives.0")
