"""Types of identifiers first, then their tokens: what is asked, what is given, and who learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from seqmlm.data.packing import PackedBatch, pack
from seqmlm.domain import Record, build_domain
from seqmlm.errors import ConfigError
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.model.type_cascade import TypeCascade
from seqmlm.objectives.clm import CausalLanguageModelling
from seqmlm.objectives.mlm import MaskedLanguageModelling
from seqmlm.objectives.rows import Objective, Row
from seqmlm.objectives.typed_mlm import Condition, TypedMaskedLanguageModelling
from seqmlm.testing import check_objective
from seqmlm_domains.code.domain import CodeDomain

CODE = "class A { int total; String join(String left, int times) { return left + times; } }"
OTHER = "class B { void run(Other o) { o.go(total); } }"
WHOLE_NAMES = {
    "per": "unit",
    "selector": {"name": "unit"},
    "corruptor": {"name": "mixed", "mask": 1.0, "random": 0.0, "keep": 0.0},
}
EVERY_NAME = WHOLE_NAMES | {"rate": 1.0}


@pytest.fixture(scope="module")
def java() -> CodeDomain:
    domain = CodeDomain(vocabulary_size=600, language="java")
    domain.fit_tokenizer([Record("A.java", CODE, "test", 1), Record("B.java", OTHER, "test", 2)])
    return domain


def typed(domain: CodeDomain, **options: Any) -> TypedMaskedLanguageModelling:
    return TypedMaskedLanguageModelling(domain, **{"policy": EVERY_NAME} | options)


def model_of(domain: CodeDomain, *objectives: Objective) -> Model:
    """A model whose type stage has an effect, unlike a fresh one."""
    torch.manual_seed(0)
    config = EncoderConfig(
        vocabulary_size=len(domain.vocabulary),
        mask_token=domain.vocabulary.special.mask,
        layers=2,
        hidden_size=16,
        heads=2,
    )
    model = Model(domain, config)
    model.add_objective_modules(objectives)
    with torch.no_grad():
        for parameter in model.objective_modules.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def row_of(objective: Objective, domain: CodeDomain, text: str = CODE) -> Row:
    (row,) = objective.rows(domain.parse(text), np.random.default_rng(0))
    return row


def batch_of(objective: Objective, domain: CodeDomain) -> PackedBatch:
    return pack([row_of(objective, domain, text) for text in (OTHER, CODE)])


@pytest.mark.parametrize("types", ["gold", "predicted", "none"])
def test_the_objective_keeps_its_contract(java: CodeDomain, types: str) -> None:
    check_objective(typed(java, types=types), java, [CODE, OTHER])


def test_every_hidden_name_is_asked_for_the_type_that_the_source_declares(
    java: CodeDomain,
) -> None:
    objective = typed(java)
    row = row_of(objective, java)
    asked = row.targets["typed_mlm.types"]
    names = [java.declared_types[number] for number in asked.labels]
    assert names == [
        *("<none>", "int", "<none>", "String", "<none>", "String", "int", "String", "int"),
    ]
    assert asked.weights is not None
    assert asked.weights.tolist() == [0, 1, 0, 1, 0, 1, 1, 1, 1]
    units = java.parse(CODE).unit_ids
    assert units[asked.positions].tolist() == list(range(9)), "at the first token of each name"


def test_no_type_makes_the_loss_of_plain_masked_language_modelling(java: CodeDomain) -> None:
    objective, plain = typed(java, types="none"), MaskedLanguageModelling(java, EVERY_NAME)
    model = model_of(java, objective)
    assert not model.objective_modules
    ours, theirs = (
        each.loss(model, model(batch), batch)
        for each in (objective, plain)
        for batch in [batch_of(each, java)]
    )
    assert ours.total.item() == theirs.total.item()
    assert ours.count.item() == theirs.count.item()


def test_the_loss_adds_up_from_tokens_and_declared_types(java: CodeDomain) -> None:
    """Against the stages written out, unit by unit, in float64."""
    objective = typed(java, types="gold", type_dropout=0.0)
    model = model_of(java, objective).double()
    batch = batch_of(objective, java)
    hidden = model(batch)
    found = objective.loss(model, hidden, batch)
    cascade: Any = model.objective_modules["typed_mlm"]
    targets, asked = batch.targets["typed_mlm"], batch.targets["typed_mlm.types"]
    type_total = torch.zeros((), dtype=torch.float64)
    states = hidden[targets.rows].clone()
    firsts = [*asked.rows.tolist(), batch.num_tokens]
    for number, label in enumerate(asked.labels.tolist()):
        if label == 0:
            continue
        scores = cascade.norm(torch.nn.functional.gelu(cascade.dense(hidden[firsts[number]])))
        logits = (cascade.type_embedding.weight @ scores + cascade.type_bias)[1:]
        type_total -= logits.log_softmax(0)[label - 1]
        for token, place in enumerate(targets.rows.tolist()):
            if firsts[number] <= place < firsts[number + 1]:
                both = torch.cat([hidden[place], cascade.type_embedding.weight[label]])
                states[token] += cascade.added(torch.nn.functional.gelu(cascade.join(both)))
    rows = torch.arange(len(states))
    tokens = model.token_losses(states, replace(targets, rows=rows)).sum()
    expected = torch.stack([tokens, type_total])
    torch.testing.assert_close(found.total, expected, rtol=1e-5, atol=0)
    assert found.count.tolist() == [len(targets.rows), int((asked.labels > 0).sum())]


def test_what_is_predicted_from_what_follows_the_settings(java: CodeDomain) -> None:
    has_type = row_of(typed(java), java).targets["typed_mlm.types"].labels > 0

    def conditions(**options: Any) -> np.ndarray:
        objective = typed(java, **options)
        return row_of(objective, java).targets["typed_mlm.conditions"].labels

    gold = conditions(types="gold", type_dropout=0.0)
    assert (gold == np.where(has_type, Condition.DECLARED, Condition.NOTHING)).all()
    forced = conditions(teacher_forcing=1.0, type_dropout=0.0)
    assert (forced == np.where(has_type, Condition.DECLARED, Condition.PREDICTED)).all()
    assert (conditions(teacher_forcing=0.0, type_dropout=0.0) == Condition.PREDICTED).all()
    assert (conditions(type_dropout=0.999999) == Condition.NOTHING).all()


def test_the_declared_type_is_given_less_and_less(java: CodeDomain) -> None:
    objective = typed(java, teacher_forcing=0.8, type_dropout=0.0)
    encoding = java.parse(CODE)

    def share(progress: float) -> float:
        there = objective.at(progress)
        drawn = np.concatenate(
            [
                there.rows(encoding, np.random.default_rng(seed))[0]
                .targets["typed_mlm.conditions"].labels
                for seed in range(400)
            ]
        )  # fmt: skip
        return float((drawn == Condition.DECLARED).mean()) * 9 / 6  # 6 of 9 names have a type

    # 2,400 draws: three standard errors are 0.03.
    assert share(0.0) == pytest.approx(0.8, abs=0.03)
    assert share(0.5) == pytest.approx(0.4, abs=0.03)
    assert share(1.0) == 0


def gradients(module: torch.nn.Module) -> set[str]:
    """Names of the parameters that were taught anything."""
    return {
        name
        for name, parameter in module.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }


def test_tokens_teach_the_type_scores_nothing(java: CodeDomain) -> None:
    objective = typed(java, types="predicted", teacher_forcing=0.0, type_dropout=0.0)
    model = model_of(java, objective)
    batch = batch_of(objective, java)
    tokens, types = objective.loss(model, model(batch), batch).total
    tokens.backward(retain_graph=True)
    cascade = model.objective_modules["typed_mlm"]
    assert isinstance(cascade, TypeCascade)
    assert not gradients(cascade) & {"dense.weight", "norm.weight", "type_bias"}
    assert {"type_embedding.weight", "join.weight"} <= gradients(cascade)
    types.backward()
    assert {"dense.weight", "type_bias"} <= gradients(cascade)


def test_causal_rows_see_no_future_beside_typed_rows(java: CodeDomain) -> None:
    """Changing any token leaves every state before it as it was, bit for bit."""
    objectives = [typed(java), CausalLanguageModelling(java)]
    model = model_of(java, *objectives)
    rows = [row_of(objective, java) for objective in objectives]
    first, causal = len(rows[0].ids), rows[1]
    low, _ = java.vocabulary.ranges["code"]
    with model.inference():
        before = model(pack(rows))
        for changed in range(1, len(causal.ids)):
            ids = causal.ids.copy()
            ids[changed] = low if ids[changed] != low else low + 1
            after = model(pack([rows[0], replace(causal, ids=ids)]))
            assert torch.equal(after[: first + changed], before[: first + changed])
            assert not torch.equal(after[first + changed :], before[first + changed :])


@pytest.mark.parametrize(
    ("option", "value"),
    [("types", "true"), ("type_weight", 0.0), ("teacher_forcing", 1.5), ("type_dropout", 1.0)],
)
def test_an_option_out_of_range_is_named(java: CodeDomain, option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=option):
        typed(java, **{option: value})


def test_a_domain_without_declared_types_is_refused() -> None:
    with pytest.raises(ConfigError, match="declares no types of units"):
        TypedMaskedLanguageModelling(build_domain({"name": "protein"}))
