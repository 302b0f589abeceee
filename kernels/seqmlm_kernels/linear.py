"""Linear maps that run at the processor's full speed in float32."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def linear(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Map features by a matrix, as :func:`torch.nn.functional.linear` does.

    In float32 on a CPU the products run in oneDNN instead of the BLAS library that torch was built
    with, which on AMD processors is at less than half the speed (90 against 200 GFLOP/s on one
    Zen 5 core). Sums are taken in another order: results differ in the last bits.

    Args:
        features: ``[..., in]``.
        weight: ``[out, in]``.
        bias: ``[out]``, or absent.

    Returns:
        ``[..., out]``.
    """
    if not _runs_in_onednn(features, weight):
        return F.linear(features, weight, bias)
    if torch.is_grad_enabled():
        return _OneDNNLinear.apply(features, weight, bias)  # type: ignore[no-any-return, no-untyped-call]
    return _product(features, weight, bias)


def linear_gelu(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Map features by a matrix and apply GELU, as ``F.gelu(linear(...))`` does, to the last bit.

    Where no gradient is taken oneDNN does both in one pass, which saves a fifth of the time.

    Args:
        features: ``[..., in]``.
        weight: ``[out, in]``.
        bias: ``[out]``, or absent.

    Returns:
        ``[..., out]``.
    """
    if torch.is_grad_enabled() or not _runs_in_onednn(features, weight):
        return F.gelu(linear(features, weight, bias))
    return torch.ops.mkldnn._linear_pointwise(features, weight, bias, "gelu", [], "none")  # type: ignore[no-any-return]


class Linear(nn.Linear):
    """A learned linear map; see :func:`linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[..., in]`` to ``[..., out]``."""
        return linear(input, self.weight, self.bias)


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(features, weight)
        return _product(features, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        features, weight = ctx.saved_tensors
        needs_features, needs_weight, needs_bias = ctx.needs_input_grad
        flat = gradient.reshape(-1, gradient.shape[-1])
        return (
            _product(gradient, weight.t()) if needs_features else None,
            _product(flat.t(), features.reshape(-1, features.shape[-1]).t())
            if needs_weight
            else None,
            flat.sum(0) if needs_bias else None,
        )


def _product(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What torch's own compiler puts in the place of a linear map on a CPU."""
    return torch.ops.mkldnn._linear_pointwise(features, weight, bias, "none", [], "")  # type: ignore[no-any-return]


_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(  # type: ignore[no-untyped-call]
    torch.ops.mkldnn, "_linear_pointwise"
)


def _runs_in_onednn(features: Tensor, weight: Tensor) -> bool:
    return (
        _HAS_ONEDNN
        and features.device.type == "cpu"
        and features.dtype == weight.dtype == torch.float32
        and features.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()  # the compiler makes its own choice
    )
