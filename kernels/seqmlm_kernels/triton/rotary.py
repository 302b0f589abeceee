"""Rotary embedding, and its gradient, which is the same rotation turned back.

A kernel of its own rather than a part of attention: there each key would be turned again by every
tile of queries that reads it.
"""

# T tokens, H query heads, Hkv key-value heads, D head dimension

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqmlm_kernels import torch_backend
from seqmlm_kernels.dispatch import TRITON_DTYPES, BackendUnavailableError
from seqmlm_kernels.triton.forward_mode import refuse_tangents
from seqmlm_kernels.triton.launch import INTERPRETED, on_device
from seqmlm_kernels.triton.waves import ceil_div, next_power_of_2

# Pairs that a program turns: 4 warps x 32 threads x 8 elements, 16 bytes of each half at 16 bits.
_PAIRS_PER_PROGRAM = 1024


def rotary(q: Tensor, k: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate q [T, H, D] and k [T, Hkv, D] by a table [2, T, D] of cosines and sines.

    Raises:
        BackendUnavailableError: the kernel does not have a dtype, or a derivative in forward mode.
    """
    for name, x in (("q", q), ("k", k)):
        if x.dtype not in TRITON_DTYPES:
            raise BackendUnavailableError(
                f"backend='triton' cannot run rotary on {name} of {x.dtype}: its kernel has "
                "float16, bfloat16 and float32. Pass backend='torch'."
            )
    refuse_tangents(q=q, k=k, table=table)
    return rotate(q, k, table, 1)


@torch.library.custom_op(
    "seqmlm_kernels::rotate",
    mutates_args=(),
    device_types="cuda",
    schema="(Tensor q, Tensor k, Tensor table, int direction) -> (Tensor, Tensor)",
)
def rotate(q: Tensor, k: Tensor, table: Tensor, direction: int) -> tuple[Tensor, Tensor]:
    """Both operands turned by the angles of the table times ``direction``, 1 or -1."""
    return _rotated_pair(q, k, table, direction)


@rotate.register_kernel("cpu")
def _(q: Tensor, k: Tensor, table: Tensor, direction: int) -> tuple[Tensor, Tensor]:
    if INTERPRETED:
        return _rotated_pair(q, k, table, direction)
    cosine, sine = table
    return torch_backend.rotary(q, k, torch.stack((cosine, sine * direction)))


def _rotated_pair(q: Tensor, k: Tensor, table: Tensor, direction: int) -> tuple[Tensor, Tensor]:
    table = table.float().contiguous()
    with on_device(q.device):
        return _rotated(q, table, direction), _rotated(k, table, direction)


def _rotated(x: Tensor, table: Tensor, direction: int) -> Tensor:
    tokens, heads, head_dim = x.shape
    x = x if x.stride(2) == 1 else x.contiguous()
    rotated = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    padded_half = next_power_of_2(head_dim // 2)
    rows = min(max(1, _PAIRS_PER_PROGRAM // padded_half), next_power_of_2(max(1, heads)))
    if rotated.numel() > 0:
        rotate_kernel[(tokens, ceil_div(heads, rows))](
            x,
            table,
            rotated,
            x.stride(0),
            x.stride(1),
            tokens,
            direction,
            HEADS=heads,
            HALF=head_dim // 2,
            PADDED_HALF=padded_half,
            ROWS=rows,
            num_warps=4,
        )
    return rotated


@triton.jit(do_not_specialize=["tokens", "direction"])
def rotate_kernel(
    x_ptr,
    table_ptr,
    rotated_ptr,
    stride,
    head_stride,
    tokens,
    direction,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
    PADDED_HALF: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Turn ROWS heads of one token."""
    token = tl.program_id(0).to(tl.int64)
    # In 64 bits: a [H, T, D] tensor seen as [T, H, D] may be longer than 2^31 numbers.
    heads = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    pairs = tl.arange(0, PADDED_HALF)[None, :]
    mask = (heads < HEADS) & (pairs < HALF)
    # The second half of a row of the table has the cosine and the sine without a sign.
    table_ptr += token * (2 * HALF) + HALF
    cosine = tl.load(table_ptr + pairs, mask=pairs < HALF, other=0.0)
    sine_ptr = table_ptr + tokens.to(tl.int64) * (2 * HALF)
    sine = tl.load(sine_ptr + pairs, mask=pairs < HALF, other=0.0) * direction
    x_ptr += token * stride + heads * head_stride + pairs
    first = tl.load(x_ptr, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(x_ptr + HALF, mask=mask, other=0.0).to(tl.float32)
    rotated_ptr += token * (HEADS * 2 * HALF) + heads * (2 * HALF) + pairs
    dtype = rotated_ptr.dtype.element_ty
    tl.store(rotated_ptr, (first * cosine - second * sine).to(dtype), mask=mask)
    tl.store(rotated_ptr + HALF, (second * cosine + first * sine).to(dtype), mask=mask)


@rotate.register_fake
def _(q: Tensor, k: Tensor, table: Tensor, direction: int) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, _, table, ctx.direction = inputs
    ctx.save_for_backward(table)


def _differentiate(ctx: Any, q_gradient: Tensor, k_gradient: Tensor) -> tuple[Any, ...]:
    (table,) = ctx.saved_tensors
    return (*rotate(q_gradient, k_gradient, table, -ctx.direction), None, None)


rotate.register_autograd(_differentiate, setup_context=_save)
