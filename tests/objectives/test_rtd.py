"""ELECTRA: what is sampled, what is asked, who learns from what, and that detection is learned."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm.config import OptimizerSection
from seqmlm.data.order import deal
from seqmlm.data.packing import PackedBatch, pack
from seqmlm.data.samples import SampleBuilder
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.errors import ConfigError
from seqmlm.evaluation.decisions import evaluate_objective
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.objectives.mlm import MaskedLanguageModelling
from seqmlm.objectives.rows import Objective, Row, TrainedObjective
from seqmlm.objectives.rtd import ReplacedTokenDetection
from seqmlm.training.distributed import Processes
from seqmlm.training.optimizer import build_optimizer
from seqmlm.training.step import LossModule, Stepper
from seqmlm_kernels import masked_softmax

Models = Callable[..., Model]
TEXTS = ["some words", "a", "of very different length.", "x y z", "", "the quick brown fox jumps"]
HALF = {"rate": 0.5}


def rows_of(domain: Domain, objectives: Sequence[Objective]) -> list[list[Row]]:
    """The rows of each text."""
    return [
        [row for i, objective in enumerate(objectives)
         for row in objective.rows(domain.parse(text), np.random.default_rng([seed, i]))]
        for seed, text in enumerate(TEXTS)
    ]  # fmt: skip


def all_rows(domain: Domain, objective: Objective) -> PackedBatch:
    return pack([row for rows in rows_of(domain, [objective]) for row in rows])


def model_for(build_model: Models, domain: Domain, *objectives: Objective, **options: Any) -> Model:
    """A model with the objectives' modules, away from their small initial weights."""
    model = build_model(domain, **options)
    model.add_objective_modules(objectives)
    with torch.no_grad():
        for parameter in model.objective_modules.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def stepper(model: Model, objectives: Sequence[Objective], weights: Sequence[float]) -> Stepper:
    return Stepper(
        module=LossModule(model, objectives),
        objectives=objectives,
        weights=torch.tensor(weights),
        optimizer=build_optimizer(model, OptimizerSection()),
        processes=Processes(0, 1, torch.device("cpu")),
        clip_norm=math.inf,
        autocast=False,
    )


def gradients(model: Model) -> dict[str, Tensor]:
    return {
        name: value.grad.clone() for name, value in model.named_parameters()
        if value.grad is not None
    }  # fmt: skip


def test_only_hidden_tokens_are_replaced_and_only_by_letters(
    words: Domain, build_model: Models
) -> None:
    objective = ReplacedTokenDetection(words, HALF)
    model = model_for(build_model, words, objective)
    batch = all_rows(words, objective)
    completed = objective.complete(model, batch)
    hidden = batch.ids == words.vocabulary.special.mask
    assert hidden.any()
    assert torch.equal(completed.ids[~hidden], batch.ids[~hidden])
    low, high = words.vocabulary.ranges["words"]
    assert ((completed.ids[hidden] >= low) & (completed.ids[hidden] < high)).all()


def test_every_maskable_token_is_asked_about_and_no_other(words: Domain) -> None:
    objective = ReplacedTokenDetection(words, HALF)
    (row,) = objective.rows(words.parse("ab c."), np.random.default_rng(0))
    questions = row.targets["rtd"]
    assert questions.positions.tolist() == [1, 2, 4], "without start, blank, dot and end"
    assert questions.labels.tolist() == [words.vocabulary.id_of(letter) for letter in "abc"]


def test_a_sample_that_is_right_counts_as_true(words: Domain, build_model: Models) -> None:
    """The head's bias makes the generator write nothing but the letter a."""
    objective = ReplacedTokenDetection(words, {"rate": 1.0})
    model = model_for(build_model, words, objective)
    with torch.no_grad():
        model.token_head.bias[words.vocabulary.id_of("a")] = 1e4
    batch = pack(list(objective.rows(words.parse("ab a.cab"), np.random.default_rng(0))))
    completed = objective.complete(model, batch)
    assert words.decode(completed.ids.tolist()) == "aa a.aaa"
    decisions = objective.decisions(model, model(completed), completed)
    #                                        a      b     a      c     a      b
    assert decisions.labels.tolist() == [False, True, False, True, False, True]


def test_the_loss_is_that_of_its_two_parts(words: Domain, build_model: Models) -> None:
    """Against log-probabilities and sigmoids in float64."""
    objective = ReplacedTokenDetection(words, HALF)
    model = model_for(build_model, words, objective)
    batch = all_rows(words, objective)
    completed = objective.complete(model, batch)
    hidden = model(completed)
    found = objective.loss(model, hidden, completed)
    modules: Any = model.objective_modules["rtd"]
    targets = batch.targets["rtd.generator"]
    states = modules.generator(model.encoder, batch)
    scores = states[targets.rows] @ model.encoder.token_embedding.weight.T + model.token_head.bias
    assert targets.allowed is not None
    probabilities = masked_softmax(scores.double(), targets.allowed, backend="reference")
    generator = -probabilities.gather(1, targets.labels[:, None]).log().sum()
    decisions = objective.decisions(model, hidden, completed)
    right = torch.where(decisions.labels, decisions.scores, -decisions.scores)
    discriminator = -right.double().sigmoid().log().sum()
    expected = torch.stack([discriminator, generator])
    torch.testing.assert_close(found.total.double(), expected, rtol=1e-4, atol=0)
    assert found.count.tolist() == [len(decisions.labels), len(targets.rows)]
    assert list(objective.terms.values()) == [50, 1]


def test_the_discriminator_teaches_the_generator_nothing(
    words: Domain, build_model: Models
) -> None:
    objective = ReplacedTokenDetection(words, HALF)
    model = model_for(build_model, words, objective)
    batch = objective.complete(model, all_rows(words, objective))
    discriminator, generator = objective.loss(model, model(batch), batch).total
    discriminator.backward(retain_graph=True)
    taught = {name for name, gradient in gradients(model).items() if gradient.any()}
    assert not any(".generator." in name or "token_head" in name for name in taught)
    assert "encoder.token_embedding.weight" in taught
    assert "objective_modules.rtd.discriminator.output.weight" in taught
    model.zero_grad()
    generator.backward()
    taught = {name for name, gradient in gradients(model).items() if gradient.any()}
    assert not any("discriminator" in name or "encoder.layers" in name for name in taught)
    assert {"encoder.token_embedding.weight", "token_head.bias"} <= taught


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_the_generator_has_no_embeddings_of_its_own(
    words: Domain, build_model: Models, positions: str
) -> None:
    """It reads those of the encoder: what they get is what it is taught with."""
    options = {"positions": "learned", "max_positions": 40} if positions == "learned" else {}
    objective = ReplacedTokenDetection(words, HALF, generator_width=0.5, generator_depth=0.5)
    model = model_for(build_model, words, objective, **options)
    modules: Any = model.objective_modules["rtd"]
    assert not [part for part in modules.modules() if isinstance(part, torch.nn.Embedding)]
    assert len(modules.generator.layers) == 1
    assert modules.generator.config.hidden_size == 8
    batch = all_rows(words, objective)
    before = modules.generator(model.encoder, batch)
    tables = [model.encoder.token_embedding, model.encoder.position_embedding]
    for table in filter(None, tables):
        with torch.no_grad():
            table.weight.add_(torch.randn_like(table.weight))
        after = modules.generator(model.encoder, batch)
        assert not torch.allclose(before, after)
        before = after


@pytest.mark.parametrize(
    ("parts", "with_mlm"), [(2, False), (9, True)], ids=["2 parts", "9 parts, beside mlm"]
)
def test_micro_batches_give_the_gradient_of_the_whole_batch(
    words: Domain, build_model: Models, parts: int, with_mlm: bool
) -> None:
    """Also where parts hide different numbers of tokens, and of 9 three are empty."""
    objectives: list[Objective] = [ReplacedTokenDetection(words, {"rate": 0.4})]
    if with_mlm:
        objectives.append(MaskedLanguageModelling(words, {"rate": 0.1}))
    rows = rows_of(words, objectives)
    found = []
    for number in (1, parts):
        model = model_for(build_model, words, *objectives)
        dealt = deal(np.arange(len(rows)), number)
        batches = [pack([row for text in part.tolist() for row in rows[text]]) for part in dealt]
        made = stepper(model, objectives, [0.5, 2.0][: len(objectives)])
        found.append((made.step(batches, learning_rate=1e-3), gradients(model)))
    (whole, expected), (split, summed) = found
    assert split.loss == pytest.approx(whole.loss, rel=1e-5)
    assert split.masking == whole.masking
    assert expected.keys() == summed.keys() == dict(model.named_parameters()).keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(summed[name], gradient, rtol=1e-4, atol=1e-5)


def test_the_step_weighs_the_two_means(words: Domain, build_model: Models) -> None:
    objective = ReplacedTokenDetection(words, HALF, discriminator_weight=20.0)
    model = model_for(build_model, words, objective)
    batch = all_rows(words, objective)
    completed = objective.complete(model, batch)
    found = objective.loss(model, model(completed), completed)
    discriminator, generator = (found.total / found.count).tolist()
    result = stepper(model, [objective], [0.5]).step([batch], learning_rate=0.0)
    assert result.loss == pytest.approx(0.5 * (20 * discriminator + generator), rel=1e-5)


def test_a_row_gets_the_same_samples_in_any_batch(words: Domain, build_model: Models) -> None:
    objective = ReplacedTokenDetection(words, HALF)
    model = model_for(build_model, words, objective)
    rows = [row for each in rows_of(words, [objective]) for row in each]
    together = objective.complete(model, pack(rows[::-1])).ids.tolist()
    apart = [objective.complete(model, pack([row])).ids.tolist() for row in rows[::-1]]
    assert together == [token for ids in apart for token in ids]


@settings(max_examples=30)
@given(draw=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 100))
def test_a_draw_takes_the_token_at_its_place_in_the_cumulative_distribution(
    words: Domain, build_model: Models, draw: float, seed: int
) -> None:
    model = build_model(words)
    hidden = torch.randn(1, 16, generator=torch.Generator().manual_seed(seed))
    row = torch.tensor([0])
    with torch.no_grad():
        scores = hidden @ model.encoder.token_embedding.weight.T + model.token_head.bias
    probabilities = masked_softmax(scores.double(), model.allowed_tokens, backend="reference")[0]
    token = int(model.token_head.sample(
        hidden, row, torch.tensor([draw], dtype=torch.float64), allowed=model.allowed_tokens
    ))  # fmt: skip
    cumulative = probabilities.cumsum(0).tolist()
    below = cumulative[token - 1]
    assert below - 1e-6 <= draw <= cumulative[token] + 1e-6
    low, high = words.vocabulary.ranges["words"]
    assert low <= token < high


def test_samples_follow_the_distribution(
    words: Domain, build_model: Models, chi_square_p: Callable[..., float]
) -> None:
    model = build_model(words)
    hidden = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    draws = torch.from_numpy(np.random.default_rng(0).random(20_000))
    rows = torch.zeros(len(draws), dtype=torch.int64)
    sampled = model.token_head.sample(hidden, rows, draws)
    with torch.no_grad():
        scores = hidden @ model.encoder.token_embedding.weight.T + model.token_head.bias
    expected = scores[0].double().softmax(0) * len(draws)
    counts = torch.bincount(sampled, minlength=len(expected))
    often = expected > 5
    assert chi_square_p(counts[often], expected[often]) > 1e-3
    assert counts[often].sum() == pytest.approx(len(draws), rel=0.02)


def test_the_exported_model_has_no_generator_and_predicts_no_tokens(
    words: Domain, build_model: Models, tmp_path: Path
) -> None:
    """Domains of tests are not registered, so the weights alone are looked at here."""
    objective = ReplacedTokenDetection(words)
    model = model_for(build_model, words, objective)
    assert any("generator" in name for name in model.state_dict())
    assert not any("generator" in name or "rtd" in name for name in model.exported_state())
    assert model.exported_state().keys() == build_model(words).state_dict().keys()
    model.trained_objectives = (TrainedObjective.of(objective),)
    with pytest.raises(ConfigError, match=r"trained by rtd alone.*Train it with mlm as well"):
        model.fill_mask("some <mask>ords")
    with pytest.raises(ConfigError, match="predicts no tokens"):
        model.pseudo_log_likelihood(["words"])
    assert model.embed(["some words"]).shape == (1, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator_width": 0.0}, r"objectives.rtd.generator_width = 0.0: must be in \(0, 1\]"),
        ({"generator_depth": 1.5}, r"objectives.rtd.generator_depth = 1.5: must be in \(0, 1\]"),
        ({"discriminator_weight": -1.0}, "discriminator_weight = -1.0: must be above 0"),
        ({"policy": {"rate": 0.3, "predict_rate": 0.1}}, "policy.predict_rate = 0.1.*Leave it out"),
    ],
    ids=["no width", "too deep", "negative weight", "hidden but not predicted"],
)
def test_options_out_of_range_are_refused(
    words: Domain, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ReplacedTokenDetection(words, **options)


def test_replaced_tokens_are_found_above_the_majority_bar(
    words: Domain, word_store: Callable[[Sequence[str]], TokenStore]
) -> None:
    """Words that repeat one of four letters, hidden as a whole: the generator can but guess.

    It replaces 3 in 4 of the hidden 30 %, and its words are mixed where true ones are not. Who
    knows that is wrong about the letters guessed right alone, 7.5 % of all.
    """
    drawn = np.random.default_rng(0).integers(4, size=(300, 4))
    store = word_store([" ".join("abcd"[letter] * 5 for letter in row) for row in drawn])
    objective = ReplacedTokenDetection(
        words,
        {"rate": 0.3, "selector": {"name": "unit"}},
        generator_width=0.5,
    )
    model = trained(words, objective, store)
    held_out = SampleBuilder(words, store, [objective], 30, seed=99)
    scores = evaluate_objective(model, objective, held_out, np.arange(100), tokens_per_batch=1000)
    assert scores is not None
    assert len(scores.labels) == 100 * 20
    assert scores.majority == pytest.approx(1 - 0.3 * 0.75, abs=0.03)
    assert scores.losses["rtd.generator"] == pytest.approx(math.log(4), abs=0.1)
    assert scores.accuracy > scores.majority + 0.05, scores.describe()
    assert scores.auc > 0.8


def trained(domain: Domain, objective: Objective, store: TokenStore) -> Model:
    torch.manual_seed(1)
    vocabulary = domain.vocabulary
    config = EncoderConfig(
        vocabulary_size=len(vocabulary),
        mask_token=vocabulary.special.mask,
        layers=1,
        hidden_size=64,
        heads=2,
    )
    model = Model(domain, config)
    model.add_objective_modules([objective])
    made = stepper(model, [objective], [1.0])
    builder = SampleBuilder(domain, store, [objective], max_length=30, seed=0)
    for step in range(300):
        records = np.random.default_rng(step).choice(len(store), 32, replace=False)
        made.step([builder.batch(step, records)], learning_rate=5e-3)
    return model
