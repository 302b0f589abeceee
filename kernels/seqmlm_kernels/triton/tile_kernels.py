"""Kernels that describe tiles: what each holds, and which others it meets.

They run once per batch, so that the kernels of attention, which run in every layer, look at no
tile that theirs does not meet.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Tokens of a tile, of which launches choose.
SIZES = (16, 32, 64, 128)
# Of a tile list; see `tiles.TileTable.tile_list`.
ROW_LENGTH = tl.constexpr(4 + len(SIZES))
# A summary is [NUM_EXTREMES, tiles], in this order: step of content keys, reach, group of pseudo
# tokens, position; the minimum before the maximum.
NUM_EXTREMES = 8
# How many tiles a visit is about, one bit of an int32 each.
CHUNK = tl.constexpr(32)
# Numbers of a visit, and before the first one; see `tiles.TileTable.visits`.
VISIT_LENGTH = tl.constexpr(4)
LARGEST = tl.constexpr(2**31 - 1)
SMALLEST = tl.constexpr(-(2**31))


@triton.jit(do_not_specialize=["capacity"])
def summarise_tiles_kernel(
    tiles_ptr,
    step_ptr,
    reach_ptr,
    group_ptr,
    position_ptr,
    summary_ptr,
    capacity,
    SIZE: tl.constexpr,
    COLUMN: tl.constexpr,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    """Extremes of one tile."""
    row_ptr = tiles_ptr + tl.program_id(0) * ROW_LENGTH
    start = tl.load(row_ptr)
    stop = tl.load(row_ptr + 1)
    sequence_start = tl.load(row_ptr + 2)
    sequence_stop = tl.load(row_ptr + 3)
    if (start >= stop) | (sequence_start >= sequence_stop):
        return
    index = tl.load(row_ptr + COLUMN) + (start - sequence_start) // SIZE
    summary_ptr += index
    tokens = start + tl.arange(0, SIZE)
    inside = tokens < stop
    if HAS_VISIBILITY:
        group = tl.load(group_ptr + tokens, mask=inside, other=-1)
        pseudo = inside & (group >= 0)
        content = inside & (group < 0)
        step = tl.load(step_ptr + tokens, mask=inside, other=0)
        reach = tl.load(reach_ptr + tokens, mask=inside, other=0)
        tl.store(summary_ptr, tl.min(tl.where(content, step, LARGEST), 0))
        tl.store(summary_ptr + capacity, tl.max(tl.where(content, step, SMALLEST), 0))
        tl.store(summary_ptr + 2 * capacity, tl.min(tl.where(inside, reach, LARGEST), 0))
        tl.store(summary_ptr + 3 * capacity, tl.max(tl.where(inside, reach, SMALLEST), 0))
        tl.store(summary_ptr + 4 * capacity, tl.min(tl.where(pseudo, group, LARGEST), 0))
        tl.store(summary_ptr + 5 * capacity, tl.max(tl.where(pseudo, group, -1), 0))
    if HAS_WINDOW:
        position = tl.load(position_ptr + tokens, mask=inside, other=0)
        tl.store(summary_ptr + 6 * capacity, tl.min(tl.where(inside, position, LARGEST), 0))
        tl.store(summary_ptr + 7 * capacity, tl.max(tl.where(inside, position, SMALLEST), 0))


@triton.jit(
    do_not_specialize=[
        *("outer_capacity", "inner_capacity", "window", "most_visits"),
        *("outer", "inner", "outer_column", "inner_column"),
    ]
)
def find_visits_kernel(
    tiles_ptr,
    outer_summary_ptr,
    inner_summary_ptr,
    visits_ptr,
    outer_capacity,
    inner_capacity,
    window,
    most_visits,
    outer,
    inner,
    outer_column,
    inner_column,
    OUTER_IS_QUERIES: tl.constexpr,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    """What one tile of ``outer`` tokens meets among those of ``inner`` tokens of its sequence."""
    row_ptr = tiles_ptr + tl.program_id(0) * ROW_LENGTH
    start = tl.load(row_ptr)
    if start >= tl.load(row_ptr + 1):
        return
    sequence_start = tl.load(row_ptr + 2)
    num_tokens = tl.load(row_ptr + 3) - sequence_start
    num_tiles = tl.cdiv(num_tokens, inner)
    outer_summary_ptr += tl.load(row_ptr + outer_column) + (start - sequence_start) // outer
    inner_summary_ptr += tl.load(row_ptr + inner_column)
    visits_ptr += tl.program_id(0).to(tl.int64) * ((1 + most_visits) * VISIT_LENGTH)
    num_visits = 0
    for chunk in range(0, num_tiles, CHUNK):
        lanes = chunk + tl.arange(0, CHUNK)
        inner_lanes = inner_summary_ptr + tl.minimum(lanes, num_tiles - 1)
        exists = lanes < num_tiles
        if OUTER_IS_QUERIES:
            some, full = classify_tiles(
                outer_summary_ptr, outer_capacity, inner_lanes, inner_capacity, window, exists,
                HAS_VISIBILITY=HAS_VISIBILITY, HAS_WINDOW=HAS_WINDOW,
            )  # fmt: skip
        else:
            some, full = classify_tiles(
                inner_lanes, inner_capacity, outer_summary_ptr, outer_capacity, window, exists,
                HAS_VISIBILITY=HAS_VISIBILITY, HAS_WINDOW=HAS_WINDOW,
            )  # fmt: skip
        # A tile that ends with the sequence needs its loads checked.
        full = full & ((lanes + 1) * inner <= num_tokens)
        partial = some & (full == 0)
        num_full = tl.sum(full.to(tl.int32), 0)
        num_partial = tl.sum(partial.to(tl.int32), 0)
        # Only a sequence that is longer than it was said to be has more visits than there is room.
        is_visit = (num_full + num_partial > 0) & (num_visits < most_visits)
        visit_ptr = visits_ptr + (1 + num_visits) * VISIT_LENGTH
        tl.store(visit_ptr, chunk, mask=is_visit)
        tl.store(visit_ptr + 1, num_full + (num_partial << 8), mask=is_visit)
        tl.store(visit_ptr + 2, as_bits(full), mask=is_visit)
        tl.store(visit_ptr + 3, as_bits(partial), mask=is_visit)
        num_visits += is_visit.to(tl.int32)
    tl.store(visits_ptr, num_visits)


@triton.jit
def classify_tiles(
    queries_ptr,
    queries_capacity,
    keys_ptr,
    keys_capacity,
    window,
    exists,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    """(some pair is visible, all are) for columns of two summaries, one of them a block of them.

    The first may be true where no pair is, the second is true only where all are.
    """
    some = exists
    full = exists
    if HAS_VISIBILITY:
        step_min = tl.load(keys_ptr)
        step_max = tl.load(keys_ptr + keys_capacity)
        reach_min = tl.load(queries_ptr + 2 * queries_capacity)
        reach_max = tl.load(queries_ptr + 3 * queries_capacity)
        key_group_min = tl.load(keys_ptr + 4 * keys_capacity)
        key_group_max = tl.load(keys_ptr + 5 * keys_capacity)
        group_min = tl.load(queries_ptr + 4 * queries_capacity)
        group_max = tl.load(queries_ptr + 5 * queries_capacity)
        groups_meet = (key_group_min <= group_max) & (group_min <= key_group_max)
        some = some & ((step_min <= reach_max) | groups_meet)
        full = full & (key_group_max < 0) & (step_max <= reach_min)
    if HAS_WINDOW:
        key_min = tl.load(keys_ptr + 6 * keys_capacity)
        key_max = tl.load(keys_ptr + 7 * keys_capacity)
        query_min = tl.load(queries_ptr + 6 * queries_capacity)
        query_max = tl.load(queries_ptr + 7 * queries_capacity)
        some = some & (key_min - query_max <= window) & (query_min - key_max <= window)
        full = full & (query_max - key_min <= window) & (key_max - query_min <= window)
    return some, full


@triton.jit
def as_bits(chosen):
    """CHUNK booleans as the bits of an int32."""
    return tl.sum(chosen.to(tl.int32) << tl.arange(0, CHUNK), 0)


@triton.jit
def lowest_bit(bits):
    """The lowest bit of an int32 that is set, alone; and its index, by its exponent as a float."""
    lowest = bits & -bits
    as_float = lowest.to(tl.uint32, bitcast=True).to(tl.float32)
    return lowest, (as_float.to(tl.int32, bitcast=True) >> 23) - 127


@triton.jit
def pairs_are_visible(
    reach,
    query_group,
    query_position,
    step,
    key_group,
    key_position,
    inside,
    window,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    """The rule of `seqmlm_kernels.visibility` for operands that broadcast to pairs.

    Args:
        inside: false for tokens, of one side, that are none of the sequence and that nobody sees.
    """
    visible = inside
    if HAS_WINDOW:
        # One comparison of a pair: below the window, unsigned numbers wrap around and are large.
        from_start = (key_position - (query_position - window)).to(tl.uint32, bitcast=True)
        visible = from_start < tl.where(inside, window.to(tl.uint32) * 2 + 1, 0)
    if HAS_VISIBILITY:
        visible = visible & tl.where(key_group < 0, step <= reach, key_group == query_group)
    return visible
