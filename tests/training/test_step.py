"""One optimizer step: the mean over everything, or nothing at all."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from itertools import count, islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqmlm.config import OptimizerSection
from seqmlm.data.order import EpochOrder, deal
from seqmlm.data.packing import PackedBatch, pack
from seqmlm.data.samples import SampleBuilder, evaluation_samples
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.evaluation.masked import evaluate_masked
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.objectives.mlm import MaskedLanguageModelling
from seqmlm.objectives.rows import Objective, Row
from seqmlm.training.distributed import Processes
from seqmlm.training.optimizer import build_optimizer, learning_rate
from seqmlm.training.step import LossModule, Stepper
from seqmlm_kernels import rejected_targets

Models = Callable[..., Model]
TEXTS = ["some words", "a", "of very different length.", "x y z", "", "the quick brown fox jumps"]


class Second(MaskedLanguageModelling):
    """Another objective of the same kind, with targets of its own."""

    name = "second"


def stepper(model: Model, objectives: Sequence[Objective], **changes: Any) -> Stepper:
    arguments: dict[str, Any] = {
        "module": LossModule(model, objectives),
        "objectives": objectives,
        "weights": torch.ones(len(objectives)),
        "optimizer": build_optimizer(model, OptimizerSection()),
        "processes": Processes(0, 1, torch.device("cpu")),
        "clip_norm": math.inf,
        "autocast": False,
    }
    return Stepper(**arguments | changes)


def rows_of(domain: Domain, objectives: Sequence[Objective]) -> list[list[Row]]:
    """The rows of each text."""
    return [
        [row for i, objective in enumerate(objectives)
         for row in objective.rows(domain.parse(text), np.random.default_rng([seed, i]))]
        for seed, text in enumerate(TEXTS)
    ]  # fmt: skip


def micro_batches(rows: list[list[Row]], parts: int) -> list[PackedBatch]:
    dealt = deal(np.arange(len(rows)), parts)
    return [pack([row for text in part.tolist() for row in rows[text]]) for part in dealt]


def gradients(model: Model) -> dict[str, Tensor]:
    return {
        name: value.grad.clone() for name, value in model.named_parameters()
        if value.grad is not None
    }  # fmt: skip


def state(made: Stepper) -> dict[str, Any]:
    return copy.deepcopy(
        {"model": made.module.state_dict(), "optimizer": made.optimizer.state_dict()}
    )


def assert_same(before: Any, after: Any) -> None:
    if isinstance(before, Tensor):
        assert torch.equal(before, after)
    elif isinstance(before, dict):
        assert before.keys() == after.keys()
        for key, value in before.items():
            assert_same(value, after[key])
    elif isinstance(before, list | tuple):
        for one, other in zip(before, after, strict=True):
            assert_same(one, other)
    else:
        assert before == after


@pytest.mark.parametrize("parts", [2, 3, 6, 9], ids=lambda parts: f"{parts} parts")
def test_micro_batches_give_the_gradient_of_the_whole_batch(
    words: Domain, build_model: Models, parts: int
) -> None:
    """Rows hide different numbers of tokens, and of 9 parts three are empty."""
    objectives = [MaskedLanguageModelling(words, {"rate": 0.4}), Second(words, {"rate": 0.1})]
    rows = rows_of(words, objectives)
    weights = torch.tensor([1.0, 0.5])
    found = []
    for number in (1, parts):
        model = build_model(words)
        made = stepper(model, objectives, weights=weights)
        result = made.step(micro_batches(rows, number), learning_rate=1e-3)
        found.append((result, gradients(model)))
    (whole, expected), (split, summed) = found
    assert split.loss == pytest.approx(whole.loss, rel=1e-6)
    assert split.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-5)
    assert split.tokens == whole.tokens == 2 * sum(len(text) + 2 for text in TEXTS)
    for name, gradient in expected.items():
        torch.testing.assert_close(summed[name], gradient, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_that_of_the_weighted_mean_losses(
    words: Domain, build_model: Models
) -> None:
    objectives = [MaskedLanguageModelling(words, {"rate": 0.4}), Second(words, {"rate": 0.1})]
    rows = rows_of(words, objectives)
    model = build_model(words)
    batch = pack([row for text in rows for row in text])
    sums = [objective.loss(model, model(batch), batch) for objective in objectives]
    mean = sum(
        weight * part.total / part.count for weight, part in zip((2.0, 0.25), sums, strict=True)
    )
    assert isinstance(mean, Tensor)
    mean.backward()  # type: ignore[no-untyped-call]
    expected = gradients(model)
    made = stepper(model, objectives, weights=torch.tensor([2.0, 0.25]))
    result = made.step(micro_batches(rows, 3), learning_rate=0.0)
    assert result.loss == pytest.approx(float(mean.detach()), rel=1e-6)
    means = {
        each.name: float(part.total.detach() / part.count)
        for each, part in zip(objectives, sums, strict=True)
    }
    assert result.losses == pytest.approx(means, rel=1e-6)
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in expected.values()))
    assert result.gradient_norm == pytest.approx(norm, rel=1e-5)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6)


def test_long_gradients_are_shortened_to_the_clip_norm(words: Domain, build_model: Models) -> None:
    objectives = [MaskedLanguageModelling(words, {"rate": 0.4})]
    rows = rows_of(words, objectives)
    model = build_model(words)
    result = stepper(model, objectives, clip_norm=0.01).step(
        micro_batches(rows, 1), learning_rate=1e-3
    )
    clipped = math.sqrt(sum(float(value.square().sum()) for value in gradients(model).values()))
    assert result.gradient_norm > 0.01
    assert clipped == pytest.approx(0.01, rel=1e-3)


def test_the_step_uses_the_learning_rate_it_is_given(words: Domain, build_model: Models) -> None:
    """Adam's first step moves every weight by the learning rate, whatever its gradient."""
    objectives = [MaskedLanguageModelling(words, {"rate": 0.4})]
    model = build_model(words)
    made = stepper(model, objectives, optimizer=build_optimizer(
        model, OptimizerSection(weight_decay=0.0, learning_rate=1.0)))  # fmt: skip
    before = model.encoder.final_norm.weight.detach().clone()  # type: ignore[operator]
    made.step(micro_batches(rows_of(words, objectives), 1), learning_rate=1e-2)
    moved = model.encoder.final_norm.weight.detach() - before  # type: ignore[operator]
    torch.testing.assert_close(moved.abs(), torch.full((16,), 1e-2), rtol=1e-2, atol=0)


@pytest.mark.parametrize("damage", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_neither_weights_nor_optimizer(
    words: Domain, build_model: Models, damage: str
) -> None:
    objectives = [MaskedLanguageModelling(words, {"rate": 0.4})]
    batches = micro_batches(rows_of(words, objectives), 2)
    model = build_model(words)
    made = stepper(model, objectives)
    assert made.step(batches, learning_rate=1e-3).is_finite
    before = state(made)
    if damage == "loss":
        handle = model.encoder.layers[0].register_forward_hook(lambda *call: call[2] * math.nan)
    else:
        handle = model.token_head.bias.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: gradient * math.inf
        )
    result = made.step(batches, learning_rate=1e-3)
    handle.remove()
    assert not result.is_finite
    assert math.isfinite(result.loss) == (damage == "gradient")
    assert_same(before, state(made))
    assert made.step(batches, learning_rate=1e-3).is_finite, "the next step must work again"


def test_a_step_without_any_target_changes_no_loss(words: Domain, build_model: Models) -> None:
    objectives = [MaskedLanguageModelling(words)]
    rows = [[Row.of(words.parse("no targets"))]]
    result = stepper(build_model(words), objectives).step(micro_batches(rows, 1), learning_rate=0.0)
    assert (result.loss, result.gradient_norm, result.tokens) == (0.0, 0.0, 12)


def test_only_terms_with_targets_have_a_loss_of_their_own(
    words: Domain, build_model: Models
) -> None:
    objectives = [MaskedLanguageModelling(words, {"rate": 0.4}), Second(words)]
    batches = micro_batches(rows_of(words, objectives[:1]), 1)
    both = stepper(build_model(words), objectives).step(batches, learning_rate=0.0)
    assert both.losses == {"mlm": pytest.approx(both.loss)}
    alone = stepper(build_model(words), objectives[:1]).step(batches, learning_rate=0.0)
    assert not alone.losses


class Undirected(MaskedLanguageModelling):
    """Stands for an objective that predicts no tokens."""

    predicts_tokens = False


@pytest.mark.parametrize(
    ("classes", "weights", "label"),
    [
        ([MaskedLanguageModelling], [1.0], "loss, nats per token"),
        ([Undirected], [1.0], "loss, nats per target"),
        ([MaskedLanguageModelling], [0.5], "weighted loss"),
        ([MaskedLanguageModelling, Second], [1.0, 1.0], "weighted loss"),
    ],
    ids=["tokens", "no tokens", "weighted", "several"],
)
def test_the_loss_is_called_what_it_is(
    words: Domain,
    build_model: Models,
    classes: Sequence[type[MaskedLanguageModelling]],
    weights: list[float],
    label: str,
) -> None:
    objectives = [each(words) for each in classes]
    made = stepper(build_model(words), objectives, weights=torch.tensor(weights))
    assert made.loss_label == label


def test_bfloat16_autocast_stays_close_to_float32(words: Domain, build_model: Models) -> None:
    objectives = [MaskedLanguageModelling(words, {"rate": 0.4})]
    batches = micro_batches(rows_of(words, objectives), 2)
    full, half = (
        stepper(build_model(words), objectives, autocast=autocast).step(batches, learning_rate=1e-3)
        for autocast in (False, True)
    )
    assert half.loss == pytest.approx(full.loss, rel=0.02)
    assert half.loss != full.loss


def test_a_tiny_model_learns_a_rule_that_frequencies_cannot_know(
    words: Domain, word_store: Callable[[Sequence[str]], TokenStore]
) -> None:
    """Records repeat two letters, as in qzqzqzqz: a hidden letter equals that two places away.

    All letters are equally frequent, so a model that knows no context has a loss of ln 26.
    """
    letters = np.random.default_rng(0).integers(0, 26, size=(300, 2)) + ord("a")
    store = word_store([(chr(one) + chr(two)) * 5 for one, two in letters])
    train, held_out = np.arange(250), np.arange(250, 300)
    torch.manual_seed(0)
    model = Model(words, EncoderConfig(
        vocabulary_size=33, mask_token=4, layers=1, hidden_size=32, heads=2))  # fmt: skip
    objectives = [MaskedLanguageModelling(words, {"rate": 0.2})]
    section = OptimizerSection(learning_rate=2e-2, warmup_steps=10)
    made = stepper(model, objectives, clip_norm=1.0, optimizer=build_optimizer(model, section))
    builder = SampleBuilder(words, store, objectives, 12, seed=0)
    order = EpochOrder(train, np.full(250, 12), np.arange(250), "record", 400, seed=0)
    batches = ((epoch, records) for epoch in count() for records in order.batches(epoch))
    for step, (epoch, records) in enumerate(islice(batches, 150), start=1):
        rate = learning_rate(step, section, steps=150)
        made.step([builder.batch(epoch, records)], learning_rate=rate)
    scores = evaluate_masked(
        model, evaluation_samples(words, store, held_out, max_length=12), tokens_per_batch=500
    )
    assert scores is not None
    assert scores.loss < 0.1 * math.log(26)
    assert scores.accuracy > 0.95


def test_targets_that_cannot_be_predicted_are_told_once(words: Domain, build_model: Models) -> None:
    own = stepper(build_model(words), [MaskedLanguageModelling(words)])
    own.take_rejected_targets()
    rejected_targets(torch.device("cpu")).add_(2)  # as a GPU does; on the CPU they are an error
    assert own.take_rejected_targets() == 2
    assert own.take_rejected_targets() == 0
