"""Linear maps: the same numbers as torch's own, forward and backward, in every setting."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seqmlm_kernels.linear import Linear, linear, linear_gelu


def _tensors(shape: tuple[int, ...], outputs: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(shape, generator=generator, requires_grad=True)
    weight = torch.randn(outputs, shape[-1], generator=generator, requires_grad=True)
    return features, weight, torch.randn(outputs, generator=generator, requires_grad=True)


@pytest.mark.parametrize("shape", [(7, 5), (1, 1), (0, 5), (3, 4, 6), (5,)], ids=str)
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no-bias"])
def test_results_and_gradients_are_those_of_torch(shape: tuple[int, ...], biased: bool) -> None:
    features, weight, bias = _tensors(shape, outputs=3)
    chosen = (features, weight, bias) if biased else (features, weight)
    results = []
    for function in (linear, F.linear):
        output = function(*chosen)
        results.append((output, *torch.autograd.grad(output.square().sum(), chosen)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    "frozen", [flags for flags in product([True, False], repeat=3) if not all(flags)], ids=str
)
def test_what_is_frozen_gets_no_gradient(frozen: tuple[bool, bool, bool]) -> None:
    tensors = _tensors((4, 5), outputs=3)
    for tensor, is_frozen in zip(tensors, frozen, strict=True):
        tensor.requires_grad_(not is_frozen)
    linear(*tensors).sum().backward()  # type: ignore[no-untyped-call]
    assert tuple(tensor.grad is None for tensor in tensors) == frozen


def test_a_row_gets_the_same_bits_whatever_its_neighbours_hold() -> None:
    features, weight, bias = _tensors((64, 48), outputs=33)
    others = features.detach().clone()
    others[1:] = 1e6
    with torch.inference_mode():
        assert torch.equal(linear(features, weight, bias)[0], linear(others, weight, bias)[0])


def test_autocast_computes_in_the_type_asked_for() -> None:
    features, weight, bias = _tensors((4, 5), outputs=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(features, weight, bias).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_other_types_are_left_to_torch(dtype: torch.dtype) -> None:
    features, weight, bias = (tensor.to(dtype) for tensor in _tensors((4, 5), outputs=3))
    assert torch.equal(linear(features, weight, bias), F.linear(features, weight, bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no-bias"])
def test_gelu_in_the_same_pass_changes_no_bit(dtype: torch.dtype, biased: bool) -> None:
    features, weight, bias = (tensor.to(dtype) for tensor in _tensors((64, 48), outputs=33))
    chosen = (features * 4, weight, bias) if biased else (features * 4, weight)
    with torch.inference_mode():
        assert torch.equal(linear_gelu(*chosen), F.gelu(linear(*chosen)))


def test_gelu_has_its_gradient() -> None:
    tensors = _tensors((4, 5), outputs=3)
    ours = torch.autograd.grad(linear_gelu(*tensors).square().sum(), tensors)
    theirs = torch.autograd.grad(F.gelu(F.linear(*tensors)).square().sum(), tensors)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their)


def test_the_module_compiles_to_one_graph() -> None:
    module = Linear(5, 3)
    features = torch.randn(4, 5)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(features), module(features))
