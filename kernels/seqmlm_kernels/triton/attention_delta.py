"""Delta, the dot product of each output with its gradient: the atomic backward needs it first."""

from __future__ import annotations

import triton
import triton.language as tl

from seqmlm_kernels.triton.attention_parts import load_rows


@triton.jit(do_not_specialize=["tokens"])
def attention_delta_kernel(
    output_ptr,
    output_gradient_ptr,
    delta_ptr,
    gradient_stride,
    gradient_head_stride,
    tokens,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Delta [HEADS, tokens] of ROWS tokens of a head; the output is contiguous."""
    start = (tl.program_id(0) // HEADS).to(tl.int64) * ROWS
    head = tl.program_id(0) % HEADS
    output = load_rows(
        output_ptr + (start * HEADS + head) * HEAD_DIM,
        HEADS * HEAD_DIM,
        tokens - start,
        ROWS=ROWS,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
        CHECK_ROWS=True,
        UPCAST=UPCAST,
    )
    output_gradient = load_rows(
        output_gradient_ptr + start * gradient_stride + head.to(tl.int64) * gradient_head_stride,
        gradient_stride,
        tokens - start,
        ROWS=ROWS,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
        CHECK_ROWS=True,
        UPCAST=UPCAST,
    )
    delta = tl.sum(output.to(tl.float32) * output_gradient.to(tl.float32), 1)
    offsets = tl.arange(0, ROWS)
    row_ptr = delta_ptr + head.to(tl.int64) * tokens + start
    tl.store(row_ptr + offsets, delta, mask=offsets < tokens - start)
