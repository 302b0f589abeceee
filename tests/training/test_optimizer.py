"""AdamW's parameter groups and the learning rate of every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.config import OptimizerSection
from seqmlm.domain import Domain
from seqmlm.model.model import Model
from seqmlm.training.optimizer import build_optimizer, learning_rate


def section(**options: Any) -> OptimizerSection:
    return OptimizerSection(**{"learning_rate": 1.0, "warmup_steps": 10} | options)


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("cosine", 1, 0.1),
        ("cosine", 5, 0.5),
        ("cosine", 10, 1.0),
        ("cosine", 60, 0.1 + 0.9 * 0.5),  # half way: cos(pi / 2) = 0
        ("cosine", 35, 0.1 + 0.9 * (1 + 2**-0.5) / 2),  # a quarter: cos(pi / 4) = 1 / sqrt(2)
        ("cosine", 110, 0.1),
        ("linear", 5, 0.5),
        ("linear", 10, 1.0),
        ("linear", 35, 0.1 + 0.9 * 0.75),
        ("linear", 110, 0.1),
        ("warmup_stable_decay", 5, 0.5),
        ("warmup_stable_decay", 10, 1.0),
        ("warmup_stable_decay", 90, 1.0),  # the last 20 % of the 100 steps begin here
        ("warmup_stable_decay", 100, 0.1 + 0.9 * 0.5),
        ("warmup_stable_decay", 110, 0.1),
        ("constant", 1, 0.1),
        ("constant", 11, 1.0),
        ("constant", 110, 1.0),
    ],
)
def test_learning_rates_at_points_computed_by_hand(
    schedule: str, step: int, expected: float
) -> None:
    """10 warm-up steps of 110, peak 1, final 0.1, decay over the last fifth."""
    found = learning_rate(step, section(schedule=schedule, final_fraction=0.1), steps=110)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "warmup_stable_decay", "constant"])
@given(warmup=st.integers(0, 300), steps=st.integers(1, 300), peak=st.floats(1e-6, 10))
def test_learning_rates_are_positive_and_never_above_the_peak(
    schedule: str, warmup: int, steps: int, peak: float
) -> None:
    options = section(schedule=schedule, warmup_steps=warmup, learning_rate=peak)
    rates = [learning_rate(step, options, steps=steps) for step in range(1, steps + 1)]
    assert min(rates) > 0
    assert max(rates) <= peak * (1 + 1e-12)
    for earlier, later in zip(rates[warmup:], rates[warmup + 1 :], strict=False):
        assert later <= earlier * (1 + 1e-12)


def test_without_warm_up_the_first_step_is_near_the_peak() -> None:
    assert learning_rate(1, section(warmup_steps=0), steps=1000) == pytest.approx(1.0, abs=1e-4)


def test_a_final_fraction_of_zero_ends_at_zero() -> None:
    assert learning_rate(110, section(final_fraction=0), steps=110) == pytest.approx(0, abs=1e-15)


def test_weight_decay_spares_biases_norms_and_embeddings(
    words: Domain, build_model: Callable[..., Model]
) -> None:
    model = build_model(
        words, positions="learned", max_positions=9, segments=2, biases=True, normalisation="layer",
        head_transform=True, layers=1,
    )  # fmt: skip
    optimizer = build_optimizer(model, section(weight_decay=0.3))
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = {group["weight_decay"]: group["params"] for group in optimizer.param_groups}
    assert {names[parameter] for parameter in groups[0.3]} == {
        "encoder.layers.0.attention.query_key_value.weight",
        "encoder.layers.0.attention.output.weight",
        "encoder.layers.0.feed_forward.expand.weight",
        "encoder.layers.0.feed_forward.contract.weight",
        "token_head.dense.weight",
    }
    spared = {names[parameter] for parameter in groups[0.0]}
    assert {"encoder.token_embedding.weight", "encoder.position_embedding.weight",
            "encoder.segment_embedding.weight", "encoder.final_norm.weight",
            "token_head.bias"} <= spared  # fmt: skip
    assert len(groups[0.3]) + len(groups[0.0]) == len(names)


def test_settings_reach_adamw() -> None:
    options = section(betas=(0.8, 0.9), epsilon=1e-6, learning_rate=0.02)
    optimizer = build_optimizer(torch.nn.Linear(2, 2), options)
    for group in optimizer.param_groups:
        assert (group["betas"], group["eps"], group["lr"]) == ((0.8, 0.9), 1e-6, 0.02)
