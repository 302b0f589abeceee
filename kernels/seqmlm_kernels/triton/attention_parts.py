"""What the three attention kernels share: rows of operands, who sees whom, the loop over tiles."""

from __future__ import annotations

import triton
import triton.language as tl

from seqmlm_kernels.triton.tile_kernels import VISIT_LENGTH, lowest_bit, pairs_are_visible

LOG2_E = tl.constexpr(1.4426950408889634)


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
def add_rows_atomically(
    base_ptr,
    stride,
    num_rows,
    values,
    ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED: tl.constexpr,
    CHECK_ROWS: tl.constexpr,
):
    """Add the first ``num_rows`` rows (all, if not checked) and HEAD_DIM columns to memory."""
    rows = tl.arange(0, ROWS)
    columns = tl.arange(0, PADDED)
    pointers = base_ptr + rows[:, None] * stride + columns[None, :]
    mask = (columns < HEAD_DIM)[None, :]
    if CHECK_ROWS:
        mask = mask & (rows < num_rows)[:, None]
    tl.atomic_add(pointers, values, mask=mask, sem="relaxed")


@triton.jit
def load_fields(
    first_ptr,
    group_ptr,
    position_ptr,
    offsets,
    inside,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    """Step or reach, group and position of tokens; those that nobody reads are the offsets."""
    first = offsets
    group = offsets
    position = offsets
    if HAS_VISIBILITY:
        first = tl.load(first_ptr + offsets, mask=inside, other=0)
        group = tl.load(group_ptr + offsets, mask=inside, other=-1)
    if HAS_WINDOW:
        position = tl.load(position_ptr + offsets, mask=inside, other=0)
    return first, group, position


@triton.jit
def load_query_tile(
    q_ptr,
    q_stride,
    step_ptr,
    reach_ptr,
    group_ptr,
    position_ptr,
    start,
    stop,
    sequence_start,
    OUTER: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED: tl.constexpr,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Queries from ``start`` to ``stop``, their fields, and pointers to those of the keys."""
    q = load_rows(
        q_ptr + start.to(tl.int64) * q_stride, q_stride, stop - start,
        ROWS=OUTER, HEAD_DIM=HEAD_DIM, PADDED=PADDED, CHECK_ROWS=True, UPCAST=UPCAST,
    )  # fmt: skip
    offsets = tl.arange(0, OUTER)
    queries = load_fields(
        reach_ptr + start, group_ptr + start, position_ptr + start, offsets, offsets < stop - start,
        HAS_VISIBILITY=HAS_VISIBILITY, HAS_WINDOW=HAS_WINDOW,
    )  # fmt: skip
    keys = (
        step_ptr + sequence_start,
        group_ptr + sequence_start,
        position_ptr + sequence_start,
    )
    return q, queries, keys


@triton.jit
def keys_are_visible(
    queries,
    keys,
    first_key,
    keys_left,
    window,
    INNER: tl.constexpr,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    """Which keys of a tile each query of another sees; none past the sequence.

    ``queries`` are their reach, group and position, ``keys`` pointers to step, group and position.
    """
    offsets = tl.arange(0, INNER)
    inside = offsets < keys_left
    if HAS_VISIBILITY or HAS_WINDOW:
        reach, query_group, query_position = queries
        step_ptr, group_ptr, position_ptr = keys
        step, key_group, key_position = load_fields(
            step_ptr + first_key,
            group_ptr + first_key,
            position_ptr + first_key,
            offsets,
            inside,
            HAS_VISIBILITY=HAS_VISIBILITY,
            HAS_WINDOW=HAS_WINDOW,
        )
        visible = pairs_are_visible(
            reach[:, None],
            query_group[:, None],
            query_position[:, None],
            step[None, :],
            key_group[None, :],
            key_position[None, :],
            inside[None, :],
            window,
            HAS_VISIBILITY=HAS_VISIBILITY,
            HAS_WINDOW=HAS_WINDOW,
        )
    else:
        visible = inside[None, :]
    return visible


@triton.jit
def over_visible_tiles(
    ADD_TILE: tl.constexpr,
    results,
    operands,
    num_tokens,
    window,
    visits_ptr,
    INNER: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED: tl.constexpr,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    UPCAST: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    """Let ADD_TILE add every inner tile of a sequence of ``num_tokens`` that the outer one meets.

    Only tiles that are partly visible, or end with the sequence, are added with PARTIAL.
    ``visits_ptr`` points to the visits of the outer tile, see `tiles`, ``results`` and
    ``operands`` are what ADD_TILE returns and reads.
    """
    if HAS_VISIBILITY or HAS_WINDOW:
        for visit in range(1, tl.load(visits_ptr) + 1):
            visit_ptr = visits_ptr + visit * VISIT_LENGTH
            chunk = tl.load(visit_ptr)
            counts = tl.load(visit_ptr + 1)
            full_bits = tl.load(visit_ptr + 2)
            partial_bits = tl.load(visit_ptr + 3)
            for _ in range(0, counts & 255):
                lowest, index = lowest_bit(full_bits)
                full_bits = full_bits ^ lowest
                first = (chunk + index) * INNER
                results = ADD_TILE(
                    results, operands, first, num_tokens - first, window, False,
                    INNER, HEAD_DIM, PADDED, HAS_VISIBILITY, HAS_WINDOW, UPCAST, INPUT_PRECISION,
                )  # fmt: skip
            for _ in range(0, counts >> 8):
                lowest, index = lowest_bit(partial_bits)
                partial_bits = partial_bits ^ lowest
                first = (chunk + index) * INNER
                results = ADD_TILE(
                    results, operands, first, num_tokens - first, window, True,
                    INNER, HEAD_DIM, PADDED, HAS_VISIBILITY, HAS_WINDOW, UPCAST, INPUT_PRECISION,
                )  # fmt: skip
    else:
        full_end = num_tokens // INNER * INNER
        for first in range(0, full_end, INNER):
            # Equal to it, which LLVM does not see: of what is linear it makes an induction pointer
            # for each load, and here these are 32 registers or more.
            if INNER * PADDED > 64 * 128:
                first = tl.minimum(first, num_tokens)
            results = ADD_TILE(
                results, operands, first, num_tokens - first, window, False,
                INNER, HEAD_DIM, PADDED, False, False, UPCAST, INPUT_PRECISION,
            )  # fmt: skip
        # One round at most. Outside of a loop, its loads would be hoisted and spill registers.
        for first in tl.range(full_end, num_tokens, INNER, num_stages=1):
            results = ADD_TILE(
                results, operands, first, num_tokens - first, window, True,
                INNER, HEAD_DIM, PADDED, False, False, UPCAST, INPUT_PRECISION,
            )  # fmt: skip
    return results
