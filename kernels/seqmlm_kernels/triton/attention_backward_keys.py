"""Gradients of keys and values: the second of the two kernels of attention's backward.

It reads ``delta``, which `attention_backward_queries` writes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from seqmlm_kernels.triton.attention_forward import load_rows, store_rows
from seqmlm_kernels.triton.tiles import (
    CHUNK,
    ROW_LENGTH,
    as_bits,
    classify_tiles,
    index_of_lowest_bit,
    pairs_are_visible,
)

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def add_key_gradients_of_tile(
    k_gradient,
    v_gradient,
    k,
    v,
    q_ptr,
    output_gradient_ptr,
    log_sum_ptr,
    delta_ptr,
    q_stride,
    gradient_stride,
    first_query,
    queries_left,
    scale_log2,
    step,
    key_group,
    key_position,
    reach_ptr,
    group_ptr,
    position_ptr,
    window,
    INNER: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED: tl.constexpr,
    PARTIAL: tl.constexpr,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    UPCAST: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    """Add what one tile of queries contributes to the gradients of a tile of keys and values."""
    first_query = tl.cast(first_query, tl.int64)
    q = load_rows(
        q_ptr + first_query * q_stride,
        q_stride,
        queries_left,
        ROWS=INNER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
        CHECK_ROWS=PARTIAL,
        UPCAST=UPCAST,
    )
    output_gradient = load_rows(
        output_gradient_ptr + first_query * gradient_stride,
        gradient_stride,
        queries_left,
        ROWS=INNER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
        CHECK_ROWS=PARTIAL,
        UPCAST=UPCAST,
    )
    offsets = tl.arange(0, INNER)
    inside = offsets < queries_left
    if PARTIAL:
        log_sum = tl.load(log_sum_ptr + first_query + offsets, mask=inside, other=0.0)
        delta = tl.load(delta_ptr + first_query + offsets, mask=inside, other=0.0)
    else:
        log_sum = tl.load(log_sum_ptr + first_query + offsets)
        delta = tl.load(delta_ptr + first_query + offsets)
    # Keys before queries from here on: no operand of the last two products needs transposing.
    scores = tl.dot(k, tl.trans(q), input_precision=INPUT_PRECISION)
    weights = tl.exp2(scores * scale_log2 - (log_sum * LOG2_E)[None, :])
    if PARTIAL:
        visible = inside[None, :]
        if HAS_VISIBILITY or HAS_WINDOW:
            reach = offsets
            query_group = offsets
            query_position = offsets
            if HAS_VISIBILITY:
                reach = tl.load(reach_ptr + first_query + offsets, mask=inside, other=0)
                query_group = tl.load(group_ptr + first_query + offsets, mask=inside, other=-1)
            if HAS_WINDOW:
                query_position = tl.load(position_ptr + first_query + offsets, mask=inside, other=0)
            visible = visible & pairs_are_visible(
                reach[None, :],
                query_group[None, :],
                query_position[None, :],
                step[:, None],
                key_group[:, None],
                key_position[:, None],
                window,
                HAS_VISIBILITY=HAS_VISIBILITY,
                HAS_WINDOW=HAS_WINDOW,
            )
        weights = tl.where(visible, weights, 0.0)
    v_gradient = tl.dot(
        weights.to(output_gradient.dtype),
        output_gradient,
        v_gradient,
        input_precision=INPUT_PRECISION,
    )
    weight_gradient = tl.dot(v, tl.trans(output_gradient), input_precision=INPUT_PRECISION)
    score_gradient = weights * (weight_gradient - delta[None, :])
    k_gradient = tl.dot(score_gradient.to(q.dtype), q, k_gradient, input_precision=INPUT_PRECISION)
    return k_gradient, v_gradient


@triton.jit(do_not_specialize=["tokens", "window", "outer_capacity", "inner_capacity"])
def attention_backward_keys_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    output_gradient_ptr,
    log_sum_ptr,
    delta_ptr,
    k_gradient_ptr,
    v_gradient_ptr,
    tiles_ptr,
    outer_summary_ptr,
    inner_summary_ptr,
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
    outer_capacity,
    inner_capacity,
    window,
    scale,
    KV_HEADS: tl.constexpr,
    HEADS_PER_KV_HEAD: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED: tl.constexpr,
    OUTER: tl.constexpr,
    INNER: tl.constexpr,
    OUTER_COLUMN: tl.constexpr,
    INNER_COLUMN: tl.constexpr,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    UPCAST: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    """Gradients of OUTER keys and values of a key-value head, over the query heads it serves."""
    row_ptr = tiles_ptr + (tl.program_id(0) // KV_HEADS) * ROW_LENGTH
    kv_head = (tl.program_id(0) % KV_HEADS).to(tl.int64)
    start = tl.load(row_ptr)
    stop = tl.load(row_ptr + 1)
    if start >= stop:
        return
    sequence_start = tl.load(row_ptr + 2)
    num_queries = tl.load(row_ptr + 3) - sequence_start
    first_token = sequence_start.to(tl.int64)
    reach_ptr += sequence_start
    query_group_ptr = group_ptr + sequence_start
    query_position_ptr = position_ptr + sequence_start

    offsets = tl.arange(0, OUTER)
    inside = offsets < stop - start
    k = load_rows(
        k_ptr + start.to(tl.int64) * k_stride + kv_head * k_head_stride,
        k_stride,
        stop - start,
        ROWS=OUTER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
        CHECK_ROWS=True,
        UPCAST=UPCAST,
    )
    v = load_rows(
        v_ptr + start.to(tl.int64) * v_stride + kv_head * v_head_stride,
        v_stride,
        stop - start,
        ROWS=OUTER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
        CHECK_ROWS=True,
        UPCAST=UPCAST,
    )
    step = offsets
    group = offsets
    position = offsets
    if HAS_VISIBILITY:
        step = tl.load(step_ptr + start + offsets, mask=inside, other=0)
        group = tl.load(group_ptr + start + offsets, mask=inside, other=0)
    if HAS_WINDOW:
        position = tl.load(position_ptr + start + offsets, mask=inside, other=0)
    scale_log2 = scale * LOG2_E
    k_gradient = tl.zeros([OUTER, PADDED], tl.float32)
    v_gradient = tl.zeros([OUTER, PADDED], tl.float32)

    for head in range(kv_head * HEADS_PER_KV_HEAD, (kv_head + 1) * HEADS_PER_KV_HEAD):
        q_head_ptr = q_ptr + first_token * q_stride + head * q_head_stride
        gradient_head_ptr = (
            output_gradient_ptr + first_token * gradient_stride + head * gradient_head_stride
        )
        log_sum_head_ptr = log_sum_ptr + head * tokens + first_token
        delta_head_ptr = delta_ptr + head * tokens + first_token
        if HAS_VISIBILITY or HAS_WINDOW:
            num_tiles = tl.cdiv(num_queries, INNER)
            outer_ptr = (
                outer_summary_ptr
                + tl.load(row_ptr + OUTER_COLUMN)
                + (start - sequence_start) // OUTER
            )
            inner_ptr = inner_summary_ptr + tl.load(row_ptr + INNER_COLUMN)
            for chunk in range(0, num_tiles, CHUNK):
                lanes = chunk + tl.arange(0, CHUNK)
                some, full = classify_tiles(
                    inner_ptr + tl.minimum(lanes, num_tiles - 1),
                    inner_capacity,
                    outer_ptr,
                    outer_capacity,
                    window,
                    lanes < num_tiles,
                    HAS_VISIBILITY=HAS_VISIBILITY,
                    HAS_WINDOW=HAS_WINDOW,
                )
                full = full & ((lanes + 1) * INNER <= num_queries)
                some = some & (full == 0)
                full_bits = as_bits(full)
                some_bits = as_bits(some)
                for _ in range(0, tl.sum(full.to(tl.int32), 0)):
                    first_query = (chunk + index_of_lowest_bit(full_bits)) * INNER
                    full_bits = full_bits & (full_bits - 1)
                    k_gradient, v_gradient = add_key_gradients_of_tile(
                        k_gradient, v_gradient, k, v, q_head_ptr, gradient_head_ptr,
                        log_sum_head_ptr, delta_head_ptr, q_stride, gradient_stride, first_query,
                        num_queries - first_query, scale_log2, step, group, position, reach_ptr,
                        query_group_ptr, query_position_ptr, window,
                        INNER=INNER, HEAD_DIM=HEAD_DIM, PADDED=PADDED, PARTIAL=False,
                        HAS_VISIBILITY=HAS_VISIBILITY, HAS_WINDOW=HAS_WINDOW,
                        UPCAST=UPCAST, INPUT_PRECISION=INPUT_PRECISION,
                    )  # fmt: skip
                for _ in range(0, tl.sum(some.to(tl.int32), 0)):
                    first_query = (chunk + index_of_lowest_bit(some_bits)) * INNER
                    some_bits = some_bits & (some_bits - 1)
                    k_gradient, v_gradient = add_key_gradients_of_tile(
                        k_gradient, v_gradient, k, v, q_head_ptr, gradient_head_ptr,
                        log_sum_head_ptr, delta_head_ptr, q_stride, gradient_stride, first_query,
                        num_queries - first_query, scale_log2, step, group, position, reach_ptr,
                        query_group_ptr, query_position_ptr, window,
                        INNER=INNER, HEAD_DIM=HEAD_DIM, PADDED=PADDED, PARTIAL=True,
                        HAS_VISIBILITY=HAS_VISIBILITY, HAS_WINDOW=HAS_WINDOW,
                        UPCAST=UPCAST, INPUT_PRECISION=INPUT_PRECISION,
                    )  # fmt: skip
        else:
            full_end = num_queries // INNER * INNER
            for first_query in range(0, full_end, INNER):
                k_gradient, v_gradient = add_key_gradients_of_tile(
                    k_gradient, v_gradient, k, v, q_head_ptr, gradient_head_ptr,
                    log_sum_head_ptr, delta_head_ptr, q_stride, gradient_stride, first_query,
                    num_queries - first_query, scale_log2, step, group, position, reach_ptr,
                    query_group_ptr, query_position_ptr, window,
                    INNER=INNER, HEAD_DIM=HEAD_DIM, PADDED=PADDED, PARTIAL=False,
                    HAS_VISIBILITY=False, HAS_WINDOW=False,
                    UPCAST=UPCAST, INPUT_PRECISION=INPUT_PRECISION,
                )  # fmt: skip
            if full_end < num_queries:
                k_gradient, v_gradient = add_key_gradients_of_tile(
                    k_gradient, v_gradient, k, v, q_head_ptr, gradient_head_ptr,
                    log_sum_head_ptr, delta_head_ptr, q_stride, gradient_stride, full_end,
                    num_queries - full_end, scale_log2, step, group, position, reach_ptr,
                    query_group_ptr, query_position_ptr, window,
                    INNER=INNER, HEAD_DIM=HEAD_DIM, PADDED=PADDED, PARTIAL=True,
                    HAS_VISIBILITY=False, HAS_WINDOW=False,
                    UPCAST=UPCAST, INPUT_PRECISION=INPUT_PRECISION,
                )  # fmt: skip

    KV_HEADS_STRIDE: tl.constexpr = KV_HEADS * HEAD_DIM
    contiguous_offset = (start.to(tl.int64) * KV_HEADS + kv_head) * HEAD_DIM
    store_rows(
        k_gradient_ptr + contiguous_offset,
        KV_HEADS_STRIDE,
        stop - start,
        k_gradient * scale,
        ROWS=OUTER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
    )
    store_rows(
        v_gradient_ptr + contiguous_offset,
        KV_HEADS_STRIDE,
        stop - start,
        v_gradient,
        ROWS=OUTER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
    )
