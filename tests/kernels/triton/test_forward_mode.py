"""Derivatives in forward mode, which the kernels do not have, are an error and never zeros."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from seqmlm_kernels import (
    BackendUnavailableError,
    attention,
    masked_cross_entropy,
    masked_softmax,
    rotary,
)

# PyTorch's own, when it first loads what forward mode needs.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script")

TOKENS = torch.arange(4)
X = torch.ones(4, 1, 2)  # queries, keys or values; as hidden states [4, 2]
WEIGHT, BIAS = torch.ones(6, 2), torch.ones(6)
Function = Callable[[Tensor, str], Tensor]


def attend(q: Tensor, k: Tensor, v: Tensor, backend: str) -> Tensor:
    boundaries = torch.tensor([0, 4])
    return attention(q, k, v, cu_seqlens=boundaries, max_seqlen=4, backend=backend)


def cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, backend: str, stop: int | None = None
) -> Tensor:
    allowed = None if stop is None else (0, stop)
    return masked_cross_entropy(
        hidden, weight, bias, TOKENS, TOKENS, allowed=allowed, backend=backend
    )[0]


# The argument that has a tangent, where it starts from, and a function of it.
CASES: dict[str, tuple[str, Tensor, Function]] = {
    "attention q": ("q", X, lambda x, backend: attend(x, X, X, backend)),
    "attention k": ("k", X, lambda x, backend: attend(X, x, X, backend)),
    "attention v": ("v", X, lambda x, backend: attend(X, X, x, backend)),
    "rotary q": ("q", X, lambda x, backend: rotary(x, X, TOKENS, backend=backend)[0]),
    "rotary k": ("k", X, lambda x, backend: rotary(X, x, TOKENS, backend=backend)[1]),
    "softmax": (
        "scores",
        torch.tensor([[1.0, 2.0]]),
        lambda x, backend: masked_softmax(
            x, torch.tensor([[3]], dtype=torch.int32), backend=backend
        ),
    ),
    "hidden": ("hidden", X[:, 0], lambda x, backend: cross_entropy(x, WEIGHT, BIAS, backend)),
    "weight": ("weight", WEIGHT, lambda x, backend: cross_entropy(X[:, 0], x, BIAS, backend)),
    "bias": ("bias", BIAS, lambda x, backend: cross_entropy(X[:, 0], WEIGHT, x, backend)),
    "weight of a range": (
        "weight",
        WEIGHT,
        lambda x, backend: cross_entropy(X[:, 0], x, BIAS, backend, 5),
    ),
}

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@each_case
def test_function_transform_is_refused_and_the_argument_named(
    case: tuple[str, Tensor, Function],
) -> None:
    name, start, function = case
    with pytest.raises(BackendUnavailableError, match=rf"{name} has a tangent.*'reference'"):
        torch.func.jvp(lambda x: function(x, "triton"), (start,), (start,))


@each_case
@pytest.mark.parametrize("requires_grad", [False, True])
def test_dual_tensor_is_refused(case: tuple[str, Tensor, Function], requires_grad: bool) -> None:
    name, start, function = case
    start = start.clone().requires_grad_(requires_grad)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(start, torch.ones_like(start))
        with pytest.raises(BackendUnavailableError, match=rf"{name} has a tangent"):
            function(dual, "triton")


@each_case
def test_backend_that_the_message_names_has_the_derivative(
    case: tuple[str, Tensor, Function],
) -> None:
    """Against (f(x + h t) - f(x - h t)) / 2 h with h = 1 / 256, in fp32."""
    _, start, function = case
    generator = torch.Generator().manual_seed(0)
    tangent = torch.randn(start.shape, generator=generator)
    found = torch.func.jvp(lambda x: function(x, "reference"), (start,), (tangent,))[1]
    step = tangent / 256
    difference = function(start + step, "reference") - function(start - step, "reference")
    torch.testing.assert_close(found, difference * 128, rtol=0, atol=2e-3)


def test_primal_of_a_dual_level_without_tangents_runs() -> None:
    with forward_ad.dual_level():
        assert torch.equal(CASES["hidden"][2](X[:, 0], "triton"), torch.full((4,), 6.0).log())
