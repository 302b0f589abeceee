"""Gradient of the queries: the first of the two kernels of attention's backward.

A program of this one owns a tile of queries, of `attention_backward_keys` a tile of keys, and each
recomputes the weights from the log-sum-exp. Nothing is added atomically, hence results are
bit-equal from run to run, at the price of seven matrix products instead of the five of a single
kernel that adds to one of the gradients from many programs, in an order that nobody fixes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from seqmlm_kernels.triton.attention_parts import (
    LOG2_E,
    keys_are_visible,
    load_query_tile,
    load_rows,
    over_visible_tiles,
    store_rows,
)
from seqmlm_kernels.triton.tile_kernels import ROW_LENGTH


@triton.jit
def add_query_gradient_of_tile(
    results,
    operands,
    first_key,
    keys_left,
    window,
    PARTIAL: tl.constexpr,
    INNER: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED: tl.constexpr,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    UPCAST: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    """Add what one tile of keys contributes to the gradient of a tile of queries."""
    (q_gradient,) = results
    q, output_gradient, log_sum, delta, key_pointers, key_strides, scale_log2, queries, keys = (
        operands
    )
    k_ptr, v_ptr = key_pointers
    k_stride, v_stride = key_strides
    first_key = tl.cast(first_key, tl.int64)
    k = load_rows(
        k_ptr + first_key * k_stride,
        k_stride,
        keys_left,
        ROWS=INNER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
        CHECK_ROWS=PARTIAL,
        UPCAST=UPCAST,
    )
    v = load_rows(
        v_ptr + first_key * v_stride,
        v_stride,
        keys_left,
        ROWS=INNER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
        CHECK_ROWS=PARTIAL,
        UPCAST=UPCAST,
    )
    scores = tl.dot(q, tl.trans(k), input_precision=INPUT_PRECISION)
    weights = tl.exp2(scores * scale_log2 - log_sum[:, None])
    weight_gradient = tl.dot(output_gradient, tl.trans(v), input_precision=INPUT_PRECISION)
    score_gradient = weights * (weight_gradient - delta[:, None])
    if PARTIAL:
        visible = keys_are_visible(
            queries,
            keys,
            first_key,
            keys_left,
            window,
            INNER=INNER,
            HAS_VISIBILITY=HAS_VISIBILITY,
            HAS_WINDOW=HAS_WINDOW,
        )
        score_gradient = tl.where(visible, score_gradient, 0.0)
    q_gradient = tl.dot(score_gradient.to(k.dtype), k, q_gradient, input_precision=INPUT_PRECISION)
    return (q_gradient,)


@triton.jit(do_not_specialize=["tokens", "window", "visits_stride"])
def attention_backward_queries_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    output_ptr,
    output_gradient_ptr,
    log_sum_ptr,
    delta_ptr,
    q_gradient_ptr,
    tiles_ptr,
    visits_ptr,
    step_ptr,
    reach_ptr,
    group_ptr,
    position_ptr,
    q_stride,
    q_head_stride,
    k_stride,
    k_head_stride,
    v_stride,
    v_head_stride,
    gradient_stride,
    gradient_head_stride,
    tokens,
    visits_stride,
    window,
    scale,
    HEADS: tl.constexpr,
    HEADS_PER_KV_HEAD: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED: tl.constexpr,
    OUTER: tl.constexpr,
    INNER: tl.constexpr,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    UPCAST: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    """Gradient of OUTER queries of a head, and delta, which the kernel of the keys reads.

    ``delta`` is the dot product of the output with its gradient.
    """
    row = (tl.program_id(0) // HEADS).to(tl.int64)
    row_ptr = tiles_ptr + row * ROW_LENGTH
    head = (tl.program_id(0) % HEADS).to(tl.int64)
    kv_head = head // HEADS_PER_KV_HEAD
    start = tl.load(row_ptr)
    stop = tl.load(row_ptr + 1)
    if start >= stop:
        return
    sequence_start = tl.load(row_ptr + 2)
    num_keys = tl.load(row_ptr + 3) - sequence_start
    k_ptr += sequence_start.to(tl.int64) * k_stride + kv_head * k_head_stride
    v_ptr += sequence_start.to(tl.int64) * v_stride + kv_head * v_head_stride

    offsets = tl.arange(0, OUTER)
    inside = offsets < stop - start
    contiguous_offset = (start.to(tl.int64) * HEADS + head) * HEAD_DIM
    output = load_rows(
        output_ptr + contiguous_offset,
        HEADS * HEAD_DIM,
        stop - start,
        ROWS=OUTER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
        CHECK_ROWS=True,
        UPCAST=UPCAST,
    )
    output_gradient = load_rows(
        output_gradient_ptr + start.to(tl.int64) * gradient_stride + head * gradient_head_stride,
        gradient_stride,
        stop - start,
        ROWS=OUTER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
        CHECK_ROWS=True,
        UPCAST=UPCAST,
    )
    delta = tl.sum(output.to(tl.float32) * output_gradient.to(tl.float32), 1)
    row_offset = head * tokens + start
    tl.store(delta_ptr + row_offset + offsets, delta, mask=inside)
    log_sum = tl.load(log_sum_ptr + row_offset + offsets, mask=inside, other=0.0)
    # Weights of queries that see nothing become exp2(-inf) = 0 instead of exp2(inf).
    log_sum = tl.where(log_sum == float("-inf"), float("inf"), log_sum)
    q, queries, keys = load_query_tile(
        q_ptr + head * q_head_stride, q_stride, step_ptr, reach_ptr, group_ptr, position_ptr,
        start, stop, sequence_start,
        OUTER, HEAD_DIM, PADDED, HAS_VISIBILITY, HAS_WINDOW, UPCAST,
    )  # fmt: skip
    scale_log2 = scale * LOG2_E
    operands = (
        q,
        output_gradient,
        log_sum,
        delta,
        (k_ptr, v_ptr),
        (k_stride, v_stride),
        scale_log2,
        queries,
        keys,
    )
    results = over_visible_tiles(
        add_query_gradient_of_tile,
        (tl.zeros([OUTER, PADDED], tl.float32),),
        operands,
        num_keys,
        window,
        visits_ptr + row * visits_stride,
        INNER=INNER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
        HAS_VISIBILITY=HAS_VISIBILITY,
        HAS_WINDOW=HAS_WINDOW,
        UPCAST=UPCAST,
        INPUT_PRECISION=INPUT_PRECISION,
    )
    (q_gradient,) = results
    store_rows(
        q_gradient_ptr + contiguous_offset,
        HEADS * HEAD_DIM,
        stop - start,
        q_gradient * scale,
        ROWS=OUTER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
    )
