"""Cross-entropy of scores and gradients that 16 bits cannot hold, interpreted, in every regime."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmlm_kernels import reference
from tests.kernels.triton.projection_cases import REGIMES, cross_entropy, force_regime


@pytest.mark.parametrize("regime", REGIMES)
def test_large_bf16_scores_are_not_rounded(regime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores up to 70, where bf16 has steps of 0.5; a step without gradients has the same loss."""
    force_regime(monkeypatch, regime)
    generator = torch.Generator().manual_seed(1)
    hidden = (2 * torch.randn(16, 64, generator=generator)).bfloat16()
    weight = torch.randn(120, 64, generator=generator).bfloat16()
    rows = torch.arange(16)
    targets = torch.randint(0, 120, (16,), generator=generator)
    expected, _ = reference.masked_cross_entropy(
        hidden.double(), weight.double(), None, rows, targets, None
    )
    loss, _ = cross_entropy(hidden.clone().requires_grad_(), weight, None, rows, targets, None)
    with torch.no_grad():
        evaluated, _ = cross_entropy(hidden, weight, None, rows, targets, None)
    assert (hidden.double() @ weight.double().T).abs().max() > 60
    torch.testing.assert_close(loss.detach().double(), expected, rtol=0, atol=2e-5)
    assert torch.equal(loss.detach(), evaluated)


@pytest.mark.parametrize("regime", REGIMES)
def test_scores_beyond_fp16_have_a_finite_loss(
    regime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 * 40 * 40 is 102,400, where fp32 has steps of 1 / 128; the first target has 2,560 less."""
    force_regime(monkeypatch, regime)
    hidden = torch.full((2, 64), 40.0, dtype=torch.float16, requires_grad=True)
    weight = torch.full((65, 64), 40.0, dtype=torch.float16)
    weight[5] = 39.0
    rows = torch.arange(2)
    loss, _ = cross_entropy(hidden, weight, None, rows, torch.tensor([5, 6]), None)
    assert loss.tolist() == pytest.approx([2560 + math.log(64), math.log(64)], abs=0.02)


@pytest.mark.parametrize("regime", REGIMES)
def test_mean_over_many_fp16_predictions_keeps_its_gradient(
    regime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As exact as fp16 can store it, although most gradients of scores are below 2^-24."""
    force_regime(monkeypatch, regime)
    generator = torch.Generator().manual_seed(1)
    hidden = (0.3 * torch.randn(6, 32, generator=generator)).half()
    weight = (0.3 * torch.randn(100, 32, generator=generator)).half()
    rows, targets = torch.arange(6), torch.arange(6) * 7

    def hidden_gradient(function: Callable[..., Any], dtype: torch.dtype) -> Tensor:
        leaf = hidden.to(dtype, copy=True).requires_grad_()
        loss, _ = function(leaf, weight.to(dtype), None, rows, targets, None)
        torch.autograd.backward(loss.sum() / 100_000)
        assert leaf.grad is not None
        return leaf.grad.double()

    expected = hidden_gradient(reference.masked_cross_entropy, torch.float64)
    found = hidden_gradient(cross_entropy, torch.float16)
    stored = (expected.half().double() - expected).norm()
    assert (found - expected).norm() <= 1.1 * stored + 5e-4 * expected.norm()


@pytest.mark.parametrize("regime", REGIMES)
def test_small_fp16_gradients_do_not_underflow(
    regime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mean over 2^20 predictions: 63 gradients of 2^-26, each a quarter of the least fp16."""
    force_regime(monkeypatch, regime)
    hidden = torch.zeros(1, 16, dtype=torch.float16, requires_grad=True)
    weight = torch.ones(64, 16, dtype=torch.float16)
    weight[0] = 0.0
    rows = torch.zeros(1, dtype=torch.int32)
    loss, _ = cross_entropy(hidden, weight, None, rows, rows, None)
    torch.autograd.backward(loss.sum() * 2.0**-20)
    assert hidden.grad is not None
    assert hidden.grad[0, 0].item() == pytest.approx(63 * 2.0**-26, rel=0.05)
