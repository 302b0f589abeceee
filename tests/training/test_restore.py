from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from seqmlm.errors import CheckpointError, UnknownNameError
from seqmlm.training.restore import (
    check_identity,
    optimizer_tensors,
    restore_model,
    restore_optimizer,
)

IDENTITY: dict[str, str | int | float] = {
    "vocabulary": "sha256:aa",
    "tokenizer": "sha256:bb",
    "data": "sha256:cc",
    "model.layers": 2,
    "model.hidden_size": 64,
    "model.heads": 4,
    "seed": 1,
    "world_size": 1,
    "threads": 2,
    "dtype": "float32",
    "optimizer": "adamw-fused",
    "mask_rate": 0.15,
}
DRIFTED: dict[str, str | int | float] = {
    "vocabulary": "sha256:ab",
    "tokenizer": "sha256:bc",
    "data": "sha256:cd",
    "model.layers": 3,
    "model.hidden_size": 65,
    "model.heads": 8,
    "seed": 7,
    "world_size": 16,
    "threads": 17,
    "dtype": "bfloat16",
    "optimizer": "adamw-foreach",
    "mask_rate": 0.3,
}


@pytest.mark.parametrize("key", IDENTITY)
def test_a_changed_key_is_refused_with_both_values(key: str) -> None:
    with pytest.raises(CheckpointError) as info:
        check_identity(IDENTITY, IDENTITY | {key: DRIFTED[key]})
    message = str(info.value)
    assert f"{key} was {IDENTITY[key]!r}, now {DRIFTED[key]!r}" in message
    assert f"--allow-drift {key}" in message
    assert message.count(" was ") == 1


def test_a_key_of_one_side_only_is_a_difference() -> None:
    with pytest.raises(CheckpointError, match="seed was 'absent', now 1"):
        check_identity({}, {"seed": 1})
    with pytest.raises(CheckpointError, match="seed was 1, now 'absent'"):
        check_identity({"seed": 1}, {})


def test_an_allowed_difference_is_a_warning_and_another_still_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "seqmlm"):
        check_identity(IDENTITY, IDENTITY | {"threads": 4}, allow=["threads"])
    assert caplog.messages == ["resuming although threads was 2, now 4 (allowed)"]
    with pytest.raises(CheckpointError, match=r"checkpoint: seed was 1, now 2\."):
        check_identity(IDENTITY, IDENTITY | {"threads": 4, "seed": 2}, allow=["threads"])


def test_allowing_an_unknown_key_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'threads'"):
        check_identity(IDENTITY, IDENTITY, allow=["thread"])


def test_model_tensors_are_copied_in_place() -> None:
    model = {"weight": torch.zeros(2), "count": torch.zeros((), dtype=torch.int64)}
    before = model["weight"]
    restore_model(model, {"weight": torch.tensor([1.0, 2.0]), "count": torch.tensor(3)})
    assert before.tolist() == [1.0, 2.0]
    assert model["count"].item() == 3


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({}, r"missing: a, b\)"),
        ({"a": torch.ones(2), "b": torch.ones(3), "c": torch.ones(1)}, r"unexpected: c\)"),
        (
            {"a": torch.ones(2), "b": torch.ones(4)},
            r"different: b \[4\] float32 instead of \[3\] float32",
        ),
        ({"a": torch.ones(2).half(), "b": torch.ones(3)}, r"a \[2\] float16 instead of"),
        (
            {"a": torch.ones(2), "b": torch.ones(3)} | {f"c{i}": torch.ones(1) for i in range(9)},
            r"unexpected: c0, c1, c2, c3 and 5 more",
        ),
    ],
    ids=["missing", "unexpected", "shape", "data type", "many"],
)
def test_model_tensors_that_do_not_fit_are_refused_and_none_is_changed(
    saved: dict[str, Tensor], message: str
) -> None:
    model = {"a": torch.zeros(2), "b": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=message):
        restore_model(model, saved)
    assert model["a"].tolist() == [0.0, 0.0]


class PythonNumbers(torch.optim.SGD):
    """Keeps numbers instead of tensors, as third-party optimizers do."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["steps"] = state.get("steps", 0) + 1
                state["scale"] = state.get("scale", 0.1) * 1.1
                state["warm"] = True
                parameter.data -= parameter.grad * state["scale"] / state["steps"]


OPTIMIZERS: dict[str, Callable[[Iterable[Any]], Optimizer]] = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adamw-amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "sgd-momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "python numbers": lambda p: PythonNumbers(p, lr=0.01),
}


def train(model: nn.Module, optimizer: Optimizer, *, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        inputs = torch.linspace(-1, 1, 12).view(4, 3) * (step + 1)
        model(inputs).square().sum().backward()
        optimizer.step()


def make_model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


@pytest.mark.parametrize("variant", OPTIMIZERS)
def test_training_goes_on_bit_for_bit_with_restored_state(variant: str) -> None:
    whole = make_model()
    optimizer = OPTIMIZERS[variant](whole.parameters())
    train(whole, optimizer, steps=range(3))
    weights = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    saved = {
        name: tensor.clone()
        for name, tensor in optimizer_tensors(optimizer, whole.named_parameters()).items()
    }
    train(whole, optimizer, steps=range(3, 6))

    resumed = make_model()
    # Other groups and another order than the saved optimizer had: names decide, not positions.
    resumed_optimizer = OPTIMIZERS[variant](
        [{"params": [p]} for p in [*resumed.parameters()][::-1]]
    )
    restore_model(dict(resumed.named_parameters()), weights)
    restore_optimizer(resumed_optimizer, resumed.named_parameters(), saved)
    train(resumed, resumed_optimizer, steps=range(3, 6))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_hyper_parameters_come_from_the_configuration() -> None:
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    train(model, optimizer, steps=range(1))
    saved = optimizer_tensors(optimizer, model.named_parameters())
    other = torch.optim.AdamW(model.parameters(), lr=0.5, weight_decay=0.25)
    restore_optimizer(other, model.named_parameters(), saved)
    assert (other.param_groups[0]["lr"], other.param_groups[0]["weight_decay"]) == (0.5, 0.25)


def test_saved_tensors_are_not_changed_by_going_on() -> None:
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    train(model, optimizer, steps=range(1))
    saved = {
        k: v.clone() for k, v in optimizer_tensors(optimizer, model.named_parameters()).items()
    }
    before = {name: tensor.clone() for name, tensor in saved.items()}
    restore_optimizer(optimizer, model.named_parameters(), saved)
    train(model, optimizer, steps=range(2))
    assert all(torch.equal(saved[name], before[name]) for name in saved)


def test_a_parameter_without_state_starts_afresh() -> None:
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    restore_optimizer(optimizer, model.named_parameters(), {})
    assert not optimizer.state


@pytest.mark.parametrize(
    ("entry", "tensor", "message"),
    [
        ("tensor/exp_avg/9.weight", torch.ones(5), "belongs to no parameter"),
        ("pickle/exp_avg/0.bias", torch.ones(5), "belongs to no parameter"),
        ("exp_avg", torch.ones(5), "belongs to no parameter"),
        ("tensor/exp_avg/0.bias", torch.ones(4), r"\[4\] float32; its parameter is \[5\] float32"),
        ("tensor/exp_avg/0.bias", torch.ones(5, 1), r"\[5, 1\] float32; its parameter"),
        ("scalar/step/0.bias", torch.ones(5), r"its parameter is"),
    ],
)
def test_optimizer_state_that_does_not_fit_is_refused(
    entry: str, tensor: Tensor, message: str
) -> None:
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    with pytest.raises(CheckpointError, match=message):
        restore_optimizer(optimizer, model.named_parameters(), {entry: tensor})
    assert not optimizer.state


def test_optimizer_state_that_safetensors_cannot_hold_is_refused() -> None:
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    optimizer.state[next(model.parameters())]["history"] = [1, 2]
    with pytest.raises(CheckpointError, match=r"AdamW keeps 'history' of 0\.weight as list"):
        optimizer_tensors(optimizer, model.named_parameters())
