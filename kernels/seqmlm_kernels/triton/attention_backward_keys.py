"""Gradients of keys and values, and in one of its two variants those of the queries.

It reads ``delta``. In the deterministic backward it is the second of two kernels, and the first,
`attention_backward_queries`, writes it. In the atomic one `attention_delta` does, and this kernel
adds what it has of the gradients of the queries to an fp32 sum in memory: five matrix products
instead of seven, in an order that nobody fixes, so that the last bits differ from run to run.
"""

from __future__ import annotations

import triton
import triton.language as tl

from seqmlm_kernels.triton.attention_parts import (
    LOG2_E,
    add_rows_atomically,
    load_fields,
    load_rows,
    over_visible_tiles,
    store_rows,
)
from seqmlm_kernels.triton.tile_kernels import ROW_LENGTH, pairs_are_visible


@triton.jit
def add_key_gradients_of_tile(
    results,
    operands,
    first_query,
    queries_left,
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
    """Add what one tile of queries contributes to the gradients of a tile of keys and values.

    And, where ``ADDS_TO_QUERIES``, what the keys contribute to those of the queries.
    """
    k_gradient, v_gradient = results
    k, v, query_pointers, query_strides, scale_log2, keys, queries, query_sum = operands
    ADDS_TO_QUERIES, query_sum_ptr, query_sum_stride, key_exists = query_sum
    q_ptr, output_gradient_ptr, log_sum_ptr, delta_ptr = query_pointers
    q_stride, gradient_stride = query_strides
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
    weights = tl.exp2(scores * scale_log2 - log_sum[None, :])
    if PARTIAL:
        if HAS_VISIBILITY or HAS_WINDOW:
            step, key_group, key_position = keys
            reach_ptr, group_ptr, position_ptr = queries
            reach, query_group, query_position = load_fields(
                reach_ptr + first_query,
                group_ptr + first_query,
                position_ptr + first_query,
                offsets,
                inside,
                HAS_VISIBILITY=HAS_VISIBILITY,
                HAS_WINDOW=HAS_WINDOW,
            )
            visible = pairs_are_visible(
                reach[None, :],
                query_group[None, :],
                query_position[None, :],
                step[:, None],
                key_group[:, None],
                key_position[:, None],
                inside[None, :],
                window,
                HAS_VISIBILITY=HAS_VISIBILITY,
                HAS_WINDOW=HAS_WINDOW,
            )
        else:
            visible = inside[None, :]
        weights = tl.where(visible, weights, 0.0)
    if ADDS_TO_QUERIES:
        # Scores of keys past the sequence mean nothing: 0 * inf would reach all the queries.
        weights = tl.where(key_exists[:, None], weights, 0.0)
    v_gradient = tl.dot(
        weights.to(output_gradient.dtype),
        output_gradient,
        v_gradient,
        input_precision=INPUT_PRECISION,
    )
    weight_gradient = tl.dot(v, tl.trans(output_gradient), input_precision=INPUT_PRECISION)
    score_gradient = (weights * (weight_gradient - delta[None, :])).to(q.dtype)
    k_gradient = tl.dot(score_gradient, q, k_gradient, input_precision=INPUT_PRECISION)
    if ADDS_TO_QUERIES:
        add_rows_atomically(
            query_sum_ptr + first_query * query_sum_stride,
            query_sum_stride,
            queries_left,
            tl.dot(tl.trans(score_gradient), k, input_precision=INPUT_PRECISION),
            ROWS=INNER,
            HEAD_DIM=HEAD_DIM,
            PADDED=PADDED,
            CHECK_ROWS=PARTIAL,
        )
    return k_gradient, v_gradient


@triton.jit(do_not_specialize=["tokens", "window", "visits_stride"])
def attention_backward_keys_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    output_gradient_ptr,
    log_sum_ptr,
    delta_ptr,
    q_gradient_ptr,
    k_gradient_ptr,
    v_gradient_ptr,
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
    ADDS_TO_QUERIES: tl.constexpr,
    KV_HEADS: tl.constexpr,
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
    """Gradients of OUTER keys and values of a key-value head, over the query heads it serves.

    ``q_gradient_ptr`` is read where ``ADDS_TO_QUERIES``: fp32 sums of the queries' gradients,
    less the scale.
    """
    row = (tl.program_id(0) // KV_HEADS).to(tl.int64)
    row_ptr = tiles_ptr + row * ROW_LENGTH
    kv_head = (tl.program_id(0) % KV_HEADS).to(tl.int64)
    start = tl.load(row_ptr)
    stop = tl.load(row_ptr + 1)
    if start >= stop:
        return
    sequence_start = tl.load(row_ptr + 2)
    num_queries = tl.load(row_ptr + 3) - sequence_start
    first_token = sequence_start.to(tl.int64)

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
    keys = load_fields(
        step_ptr + start,
        group_ptr + start,
        position_ptr + start,
        offsets,
        inside,
        HAS_VISIBILITY=HAS_VISIBILITY,
        HAS_WINDOW=HAS_WINDOW,
    )
    queries = (
        reach_ptr + sequence_start,
        group_ptr + sequence_start,
        position_ptr + sequence_start,
    )
    scale_log2 = scale * LOG2_E
    results = (
        tl.zeros([OUTER, PADDED], tl.float32),
        tl.zeros([OUTER, PADDED], tl.float32),
    )
    Q_STRIDE: tl.constexpr = KV_HEADS * HEADS_PER_KV_HEAD * HEAD_DIM
    for head in range(kv_head * HEADS_PER_KV_HEAD, (kv_head + 1) * HEADS_PER_KV_HEAD):
        operands = (
            k,
            v,
            (
                q_ptr + first_token * q_stride + head * q_head_stride,
                output_gradient_ptr + first_token * gradient_stride + head * gradient_head_stride,
                log_sum_ptr + head * tokens + first_token,
                delta_ptr + head * tokens + first_token,
            ),
            (q_stride, gradient_stride),
            scale_log2,
            keys,
            queries,
            (
                ADDS_TO_QUERIES,
                q_gradient_ptr + first_token * Q_STRIDE + head * HEAD_DIM,
                Q_STRIDE,
                inside,
            ),
        )
        results = over_visible_tiles(
            add_key_gradients_of_tile,
            results,
            operands,
            num_queries,
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
    k_gradient, v_gradient = results

    KV_STRIDE: tl.constexpr = KV_HEADS * HEAD_DIM
    contiguous_offset = (start.to(tl.int64) * KV_HEADS + kv_head) * HEAD_DIM
    store_rows(
        k_gradient_ptr + contiguous_offset,
        KV_STRIDE,
        stop - start,
        k_gradient * scale,
        ROWS=OUTER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
    )
    store_rows(
        v_gradient_ptr + contiguous_offset,
        KV_STRIDE,
        stop - start,
        v_gradient,
        ROWS=OUTER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
    )
