"""Attention forward: online softmax over the key tiles that a query tile sees.

FlashAttention-2 (Dao 2023, arXiv 2307.08691) in Triton, with the visibility rule. A program owns
one tile of queries of one head. Scores are kept in units of log2, because exp2 is one instruction.
"""

from __future__ import annotations

import triton
import triton.language as tl

from seqmlm_kernels.triton.attention_parts import (
    keys_are_visible,
    load_query_tile,
    load_rows,
    over_visible_tiles,
    store_rows,
)
from seqmlm_kernels.triton.tile_kernels import ROW_LENGTH


@triton.jit
def attend_to_tile(
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
    """Add one tile of keys to the running softmax; only PARTIAL evaluates a predicate."""
    maximum, total, accumulator = results
    q, k_ptr, v_ptr, k_stride, v_stride, scale_log2, queries, keys = operands
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


@triton.jit(do_not_specialize=["tokens", "window", "visits_stride"])
def attention_forward_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    output_ptr,
    log_sum_ptr,
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
    tokens,
    visits_stride,
    window,
    scale_log2,
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
    """Output of OUTER queries of a head, and log2 of the sum of exponentials of their scores.

    That is -inf where nothing is seen.
    """
    # Heads vary fastest: what runs at one time reads the same sequence, and the longest goes first.
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

    q, queries, keys = load_query_tile(
        q_ptr + head * q_head_stride, q_stride, step_ptr, reach_ptr, group_ptr, position_ptr,
        start, stop, sequence_start,
        OUTER, HEAD_DIM, PADDED, HAS_VISIBILITY, HAS_WINDOW, UPCAST,
    )  # fmt: skip
    results = (
        tl.full([OUTER], float("-inf"), tl.float32),
        tl.zeros([OUTER], tl.float32),
        tl.zeros([OUTER, PADDED], tl.float32),
    )
    results = over_visible_tiles(
        attend_to_tile,
        results,
        (q, k_ptr, v_ptr, k_stride, v_stride, scale_log2, queries, keys),
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
    maximum, total, accumulator = results

    # Read again: held during the loop, which needs every register, these were spilt.
    start = tl.load(row_ptr, volatile=True)
    stop = tl.load(row_ptr + 1, volatile=True)
    offsets = tl.arange(0, OUTER)
    inside = offsets < stop - start
    sees_nothing = total == 0.0
    total = tl.where(sees_nothing, 1.0, total)
    log_sum = tl.where(sees_nothing, float("-inf"), maximum + tl.log2(total))
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
