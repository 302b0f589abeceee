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
        if q.dtype == k.dtype:
            return _rotated(q, k, table, direction)
        # A kernel chooses between pointers of one dtype.
        rotated = (_rotated(x, x[:, :0], table, direction)[0] for x in (q, k))
        return next(rotated), next(rotated)


def _rotated(q: Tensor, k: Tensor, table: Tensor, direction: int) -> tuple[Tensor, Tensor]:
    tokens, heads, head_dim = q.shape
    kv_heads = k.shape[1]
    q, k = (x if x.stride(2) == 1 else x.contiguous() for x in (q, k))
    rotated_q, rotated_k = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k))
    padded_half = next_power_of_2(head_dim // 2)
    rows = max(1, _PAIRS_PER_PROGRAM // padded_half)
    if rotated_q.numel() + rotated_k.numel() > 0:
        rotate_kernel[(ceil_div(tokens * (heads + kv_heads), rows),)](
            q,
            k,
            table,
            rotated_q,
            rotated_k,
            *q.stride()[:2],
            *k.stride()[:2],
            tokens,
            direction,
            HEADS=heads,
            KV_HEADS=kv_heads,
            HALF=head_dim // 2,
            PADDED_HALF=padded_half,
            ROWS=rows,
            num_warps=4,
        )
    return rotated_q, rotated_k


@triton.jit(do_not_specialize=["tokens", "direction"])
def rotate_kernel(
    q_ptr,
    k_ptr,
    table_ptr,
    rotated_q_ptr,
    rotated_k_ptr,
    q_stride,
    q_head_stride,
    k_stride,
    k_head_stride,
    tokens,
    direction,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    PADDED_HALF: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Turn ROWS heads: of a token those of its queries, then those of its keys."""
    ALL_HEADS: tl.constexpr = HEADS + KV_HEADS
    # So many programs turn ROWS tokens, which keeps the division in 32 bits.
    row = tl.program_id(0) % ALL_HEADS * ROWS + tl.arange(0, ROWS)[:, None]
    token = (tl.program_id(0) // ALL_HEADS).to(tl.int64) * ROWS + row // ALL_HEADS
    # In 64 bits: a [H, T, D] tensor seen as [T, H, D] may be longer than 2^31 numbers.
    head = (row % ALL_HEADS).to(tl.int64)
    is_query = head < HEADS
    pairs = tl.arange(0, PADDED_HALF)[None, :]
    mask = (token < tokens) & (pairs < HALF)
    # The second half of a row of the table has the cosine and the sine without a sign.
    table_ptr += token * (2 * HALF) + HALF + pairs
    cosine = tl.load(table_ptr, mask=mask, other=0.0)
    sine_ptr = table_ptr + tokens.to(tl.int64) * (2 * HALF)
    sine = tl.load(sine_ptr, mask=mask, other=0.0) * direction
    x_ptr = pairs + tl.where(
        is_query,
        q_ptr + token * q_stride + head * q_head_stride,
        k_ptr + token * k_stride + (head - HEADS) * k_head_stride,
    )
    first = tl.load(x_ptr, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(x_ptr + HALF, mask=mask, other=0.0).to(tl.float32)
    rotated_ptr = pairs + tl.where(
        is_query,
        rotated_q_ptr + (token * HEADS + head) * (2 * HALF),
        rotated_k_ptr + (token * KV_HEADS + head - HEADS) * (2 * HALF),
    )
    dtype = rotated_q_ptr.dtype.element_ty
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
