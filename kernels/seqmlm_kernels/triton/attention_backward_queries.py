"""Gradient of the queries: the first of the two kernels of attention's backward.

A program of this one owns a tile of queries, of `attention_backward_keys` a tile of keys, and each
recomputes the weights from the log-sum-exp. Nothing is added atomically, hence results are
bit-equal from run to run, at the price of seven matrix products instead of the five of a single
kernel that adds to one of the gradients from many programs, in an order that nobody fixes.
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
def add_query_gradient_of_tile(
    q_gradient,
    q,
    output_gradient,
    log_sum,
    delta,
    k_ptr,
    v_ptr,
    k_stride,
    v_stride,
    first_key,
    keys_left,
    scale_log2,
    query_reach,
    query_group,
    query_position,
    step_ptr,
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
    """Add what one tile of keys contributes to the gradient of a tile of queries."""
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
        offsets = tl.arange(0, INNER)
        inside = offsets < keys_left
        visible = inside[None, :]
        if HAS_VISIBILITY or HAS_WINDOW:
            step = offsets
            key_group = offsets
            key_position = offsets
            if HAS_VISIBILITY:
                step = tl.load(step_ptr + first_key + offsets, mask=inside, other=0)
                key_group = tl.load(group_ptr + first_key + offsets, mask=inside, other=0)
            if HAS_WINDOW:
                key_position = tl.load(position_ptr + first_key + offsets, mask=inside, other=0)
            visible = visible & pairs_are_visible(
                query_reach[:, None],
                query_group[:, None],
                query_position[:, None],
                step[None, :],
                key_group[None, :],
                key_position[None, :],
                window,
                HAS_VISIBILITY=HAS_VISIBILITY,
                HAS_WINDOW=HAS_WINDOW,
            )
        score_gradient = tl.where(visible, score_gradient, 0.0)
    return tl.dot(score_gradient.to(k.dtype), k, q_gradient, input_precision=INPUT_PRECISION)


@triton.jit(do_not_specialize=["tokens", "window", "outer_capacity", "inner_capacity"])
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
    HEADS: tl.constexpr,
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
    """Gradient of OUTER queries of a head, and delta, which the kernel of the keys reads.

    ``delta`` is the dot product of the output with its gradient.
    """
    row_ptr = tiles_ptr + (tl.program_id(0) // HEADS) * ROW_LENGTH
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
    step_ptr += sequence_start
    key_group_ptr = group_ptr + sequence_start
    key_position_ptr = position_ptr + sequence_start

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
    log_sum = tl.load(log_sum_ptr + row_offset + offsets, mask=inside, other=0.0) * LOG2_E
    # Weights of queries that see nothing become exp2(-inf) = 0 instead of exp2(inf).
    log_sum = tl.where(log_sum == float("-inf"), float("inf"), log_sum)
    q = load_rows(
        q_ptr + start.to(tl.int64) * q_stride + head * q_head_stride,
        q_stride,
        stop - start,
        ROWS=OUTER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
        CHECK_ROWS=True,
        UPCAST=UPCAST,
    )
    reach = offsets
    group = offsets
    position = offsets
    if HAS_VISIBILITY:
        reach = tl.load(reach_ptr + start + offsets, mask=inside, other=0)
        group = tl.load(group_ptr + start + offsets, mask=inside, other=-1)
    if HAS_WINDOW:
        position = tl.load(position_ptr + start + offsets, mask=inside, other=0)
    scale_log2 = scale * LOG2_E
    q_gradient = tl.zeros([OUTER, PADDED], tl.float32)

    if HAS_VISIBILITY or HAS_WINDOW:
        num_tiles = tl.cdiv(num_keys, INNER)
        outer_ptr = (
            outer_summary_ptr + tl.load(row_ptr + OUTER_COLUMN) + (start - sequence_start) // OUTER
        )
        inner_ptr = inner_summary_ptr + tl.load(row_ptr + INNER_COLUMN)
        for chunk in range(0, num_tiles, CHUNK):
            lanes = chunk + tl.arange(0, CHUNK)
            some, full = classify_tiles(
                outer_ptr,
                outer_capacity,
                inner_ptr + tl.minimum(lanes, num_tiles - 1),
                inner_capacity,
                window,
                lanes < num_tiles,
                HAS_VISIBILITY=HAS_VISIBILITY,
                HAS_WINDOW=HAS_WINDOW,
            )
            full = full & ((lanes + 1) * INNER <= num_keys)
            some = some & (full == 0)
            full_bits = as_bits(full)
            some_bits = as_bits(some)
            for _ in range(0, tl.sum(full.to(tl.int32), 0)):
                first_key = (chunk + index_of_lowest_bit(full_bits)) * INNER
                full_bits = full_bits & (full_bits - 1)
                q_gradient = add_query_gradient_of_tile(
                    q_gradient, q, output_gradient, log_sum, delta, k_ptr, v_ptr, k_stride,
                    v_stride, first_key, num_keys - first_key, scale_log2, reach, group, position,
                    step_ptr, key_group_ptr, key_position_ptr, window,
                    INNER=INNER, HEAD_DIM=HEAD_DIM, PADDED=PADDED, PARTIAL=False,
                    HAS_VISIBILITY=HAS_VISIBILITY, HAS_WINDOW=HAS_WINDOW,
                    UPCAST=UPCAST, INPUT_PRECISION=INPUT_PRECISION,
                )  # fmt: skip
            for _ in range(0, tl.sum(some.to(tl.int32), 0)):
                first_key = (chunk + index_of_lowest_bit(some_bits)) * INNER
                some_bits = some_bits & (some_bits - 1)
                q_gradient = add_query_gradient_of_tile(
                    q_gradient, q, output_gradient, log_sum, delta, k_ptr, v_ptr, k_stride,
                    v_stride, first_key, num_keys - first_key, scale_log2, reach, group, position,
                    step_ptr, key_group_ptr, key_position_ptr, window,
                    INNER=INNER, HEAD_DIM=HEAD_DIM, PADDED=PADDED, PARTIAL=True,
                    HAS_VISIBILITY=HAS_VISIBILITY, HAS_WINDOW=HAS_WINDOW,
                    UPCAST=UPCAST, INPUT_PRECISION=INPUT_PRECISION,
                )  # fmt: skip
    else:
        full_end = num_keys // INNER * INNER
        for first_key in range(0, full_end, INNER):
            q_gradient = add_query_gradient_of_tile(
                q_gradient, q, output_gradient, log_sum, delta, k_ptr, v_ptr, k_stride,
                v_stride, first_key, num_keys - first_key, scale_log2, reach, group, position,
                step_ptr, key_group_ptr, key_position_ptr, window,
                INNER=INNER, HEAD_DIM=HEAD_DIM, PADDED=PADDED, PARTIAL=False,
                HAS_VISIBILITY=False, HAS_WINDOW=False,
                UPCAST=UPCAST, INPUT_PRECISION=INPUT_PRECISION,
            )  # fmt: skip
        if full_end < num_keys:
            q_gradient = add_query_gradient_of_tile(
                q_gradient, q, output_gradient, log_sum, delta, k_ptr, v_ptr, k_stride,
                v_stride, full_end, num_keys - full_end, scale_log2, reach, group, position,
                step_ptr, key_group_ptr, key_position_ptr, window,
                INNER=INNER, HEAD_DIM=HEAD_DIM, PADDED=PADDED, PARTIAL=True,
                HAS_VISIBILITY=False, HAS_WINDOW=False,
                UPCAST=UPCAST, INPUT_PRECISION=INPUT_PRECISION,
            )  # fmt: skip

    store_rows(
        q_gradient_ptr + contiguous_offset,
        HEADS * HEAD_DIM,
        stop - start,
        q_gradient * scale,
        ROWS=OUTER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
    )
