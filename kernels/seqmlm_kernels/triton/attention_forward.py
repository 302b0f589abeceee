"""Attention forward: online softmax over the key tiles that a query tile sees.

FlashAttention-2 (Dao 2023, arXiv 2307.08691) in Triton, with the visibility rule. A program owns
one tile of queries of one head. Scores are kept in units of log2, because exp2 is one instruction.
"""

from __future__ import annotations

import triton
import triton.language as tl

from seqmlm_kernels.triton.tiles import (
    CHUNK,
    ROW_LENGTH,
    as_bits,
    classify_tiles,
    index_of_lowest_bit,
    pairs_are_visible,
)

LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def load_rows(
    base_ptr,
    stride,
    num_rows,
    ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED: tl.constexpr,
    CHECK_ROWS: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """ROWS x PADDED from ``base_ptr``; zeros past ``num_rows`` (if checked) and HEAD_DIM."""
    rows = tl.arange(0, ROWS)
    columns = tl.arange(0, PADDED)
    pointers = base_ptr + rows[:, None] * stride + columns[None, :]
    if CHECK_ROWS:
        mask = (rows < num_rows)[:, None]
        if PADDED != HEAD_DIM:
            mask = mask & (columns < HEAD_DIM)[None, :]
        values = tl.load(pointers, mask=mask, other=0.0)
    elif PADDED != HEAD_DIM:
        values = tl.load(pointers, mask=(columns < HEAD_DIM)[None, :], other=0.0)
    else:
        values = tl.load(pointers)
    if UPCAST:
        values = values.to(tl.float32)
    return values


@triton.jit
def store_rows(
    base_ptr,
    stride,
    num_rows,
    values,
    ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Store the first ``num_rows`` rows and HEAD_DIM columns."""
    rows = tl.arange(0, ROWS)
    columns = tl.arange(0, PADDED)
    mask = (rows < num_rows)[:, None]
    if PADDED != HEAD_DIM:
        mask = mask & (columns < HEAD_DIM)[None, :]
    pointers = base_ptr + rows[:, None] * stride + columns[None, :]
    tl.store(pointers, values.to(base_ptr.dtype.element_ty), mask=mask)


@triton.jit
def attend_to_tile(
    maximum,
    total,
    accumulator,
    q,
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
    """Add one tile of keys to the running softmax; only PARTIAL evaluates a predicate."""
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
    scores = tl.dot(q, tl.trans(k), input_precision=INPUT_PRECISION)
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
        scores = tl.where(visible, scores, float("-inf"))
    # The factor is positive, so it may follow the maximum: one multiply-add a score.
    new_maximum = tl.maximum(maximum, tl.max(scores, 1) * scale_log2)
    reference = new_maximum
    if PARTIAL:
        # A row that has seen nothing yet: -inf less -inf would be NaN.
        reference = tl.where(new_maximum == float("-inf"), 0.0, new_maximum)
    weights = tl.exp2(scores * scale_log2 - reference[:, None])
    shrink = tl.exp2(maximum - reference)
    total = total * shrink + tl.sum(weights, 1)
    accumulator = accumulator * shrink[:, None]
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
    accumulator = tl.dot(weights.to(v.dtype), v, accumulator, input_precision=INPUT_PRECISION)
    return new_maximum, total, accumulator


@triton.jit(do_not_specialize=["tokens", "window", "outer_capacity", "inner_capacity"])
def attention_forward_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    output_ptr,
    log_sum_ptr,
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
    tokens,
    outer_capacity,
    inner_capacity,
    window,
    scale_log2,
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
    """Output and log-sum-exp (in nats, -inf where nothing is seen) of OUTER queries of a head."""
    # Heads vary fastest: what runs at one time reads the same sequence, and the longest goes first.
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
    maximum = tl.full([OUTER], float("-inf"), tl.float32)
    total = tl.zeros([OUTER], tl.float32)
    accumulator = tl.zeros([OUTER, PADDED], tl.float32)

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
            # A tile that ends with the sequence needs its loads checked.
            full = full & ((lanes + 1) * INNER <= num_keys)
            some = some & (full == 0)
            full_bits = as_bits(full)
            some_bits = as_bits(some)
            for _ in range(0, tl.sum(full.to(tl.int32), 0)):
                first_key = (chunk + index_of_lowest_bit(full_bits)) * INNER
                full_bits = full_bits & (full_bits - 1)
                maximum, total, accumulator = attend_to_tile(
                    maximum, total, accumulator, q, k_ptr, v_ptr, k_stride, v_stride,
                    first_key, num_keys - first_key, scale_log2, reach, group, position,
                    step_ptr, key_group_ptr, key_position_ptr, window,
                    INNER=INNER, HEAD_DIM=HEAD_DIM, PADDED=PADDED, PARTIAL=False,
                    HAS_VISIBILITY=HAS_VISIBILITY, HAS_WINDOW=HAS_WINDOW,
                    UPCAST=UPCAST, INPUT_PRECISION=INPUT_PRECISION,
                )  # fmt: skip
            for _ in range(0, tl.sum(some.to(tl.int32), 0)):
                first_key = (chunk + index_of_lowest_bit(some_bits)) * INNER
                some_bits = some_bits & (some_bits - 1)
                maximum, total, accumulator = attend_to_tile(
                    maximum, total, accumulator, q, k_ptr, v_ptr, k_stride, v_stride,
                    first_key, num_keys - first_key, scale_log2, reach, group, position,
                    step_ptr, key_group_ptr, key_position_ptr, window,
                    INNER=INNER, HEAD_DIM=HEAD_DIM, PADDED=PADDED, PARTIAL=True,
                    HAS_VISIBILITY=HAS_VISIBILITY, HAS_WINDOW=HAS_WINDOW,
                    UPCAST=UPCAST, INPUT_PRECISION=INPUT_PRECISION,
                )  # fmt: skip
    else:
        full_end = num_keys // INNER * INNER
        for first_key in range(0, full_end, INNER):
            maximum, total, accumulator = attend_to_tile(
                maximum, total, accumulator, q, k_ptr, v_ptr, k_stride, v_stride,
                first_key, num_keys - first_key, scale_log2, reach, group, position,
                step_ptr, key_group_ptr, key_position_ptr, window,
                INNER=INNER, HEAD_DIM=HEAD_DIM, PADDED=PADDED, PARTIAL=False,
                HAS_VISIBILITY=False, HAS_WINDOW=False,
                UPCAST=UPCAST, INPUT_PRECISION=INPUT_PRECISION,
            )  # fmt: skip
        if full_end < num_keys:
            maximum, total, accumulator = attend_to_tile(
                maximum, total, accumulator, q, k_ptr, v_ptr, k_stride, v_stride,
                full_end, num_keys - full_end, scale_log2, reach, group, position,
                step_ptr, key_group_ptr, key_position_ptr, window,
                INNER=INNER, HEAD_DIM=HEAD_DIM, PADDED=PADDED, PARTIAL=True,
                HAS_VISIBILITY=False, HAS_WINDOW=False,
                UPCAST=UPCAST, INPUT_PRECISION=INPUT_PRECISION,
            )  # fmt: skip

    sees_nothing = total == 0.0
    total = tl.where(sees_nothing, 1.0, total)
    log_sum = tl.where(sees_nothing, float("-inf"), (maximum + tl.log2(total)) * LN_2)
    tl.store(log_sum_ptr + head * tokens + start + offsets, log_sum, mask=inside)
    store_rows(
        output_ptr + (start.to(tl.int64) * HEADS + head) * HEAD_DIM,
        HEADS * HEAD_DIM,
        stop - start,
        accumulator / total[:, None],
        ROWS=OUTER,
        HEAD_DIM=HEAD_DIM,
        PADDED=PADDED,
    )
