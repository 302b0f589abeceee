"""Rows of a matrix, with a gradient that does not depend on the order of programs."""

# T tokens, M predictions, E hidden size

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmlm_kernels.triton.launch import INTERPRETED, on_device
from seqmlm_kernels.triton.repeated_rows import link_rows, sum_chains


@torch.library.custom_op("seqmlm_kernels::gather_rows", mutates_args=())
def gather_rows(hidden: Tensor, rows: Tensor) -> Tensor:
    """Rows [M, E] of ``hidden`` [T, E]; differentiable, and a row may be taken several times."""
    return hidden.index_select(0, rows)


@gather_rows.register_fake
def _(hidden: Tensor, rows: Tensor) -> Tensor:
    return hidden.new_empty((rows.shape[0], hidden.shape[1]))


@torch.library.custom_op("seqmlm_kernels::sum_rows", mutates_args=(), device_types="cuda")
def sum_rows(gradient: Tensor, rows: Tensor, num_tokens: int) -> Tensor:
    """Sum [T, E] of the [M, E] gradients of each row, added in fp32 in the order of predictions."""
    return _sum_rows(gradient, rows, num_tokens)


def _sum_rows(gradient: Tensor, rows: Tensor, num_tokens: int) -> Tensor:
    output = gradient.new_zeros((num_tokens, gradient.shape[1]))
    if len(rows) > 0:
        rows = rows.contiguous()
        with on_device(rows.device):
            chains = link_rows(rows)
            sum_chains(gradient.contiguous(), rows, chains, output, only_repeated=False)
    return output


@sum_rows.register_kernel("cpu")
def _(gradient: Tensor, rows: Tensor, num_tokens: int) -> Tensor:
    if INTERPRETED:
        return _sum_rows(gradient, rows, num_tokens)
    output = gradient.new_zeros((num_tokens, gradient.shape[1]))
    return output.index_add_(0, rows, gradient)


@sum_rows.register_fake
def _(gradient: Tensor, rows: Tensor, num_tokens: int) -> Tensor:
    return gradient.new_empty((num_tokens, gradient.shape[1]))


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    hidden, rows = inputs
    ctx.save_for_backward(rows)
    ctx.num_tokens = hidden.shape[0]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    (rows,) = ctx.saved_tensors
    return sum_rows(gradient, rows, ctx.num_tokens), None


gather_rows.register_autograd(_backward, setup_context=_setup_context)
