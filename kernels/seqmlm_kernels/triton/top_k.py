"""The k best ids of each prediction: the best of each part of the vocabulary, then merged.

A score and its id make one 64-bit key that sorts by score and then by lowest id, so that no
comparison ever ties. Keys of a tile enter the k best so far one at a time, largest first, for as
long as one of them is better: after the first tiles that is rare.

More than `MAX_K` ids would not stay in the registers of a program. They are found `MAX_K` at a
time, each pass over the vocabulary below the last key of the one before: k / MAX_K products and
still nothing of size [M, V].
"""

# M predictions, V vocabulary, E hidden size

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqmlm_kernels.triton.launch import INTERPRETED
from seqmlm_kernels.triton.projection_forward import Projection
from seqmlm_kernels.triton.projection_plan import multiprocessors_of
from seqmlm_kernels.triton.projection_tiles import Tiles
from seqmlm_kernels.triton.vocabulary import (
    add_to_softmax,
    load_rows,
    load_set_offsets,
    log_normaliser_of,
    merge_softmax,
    project,
    tile_membership,
)
from seqmlm_kernels.triton.waves import ceil_div, next_power_of_2, whole_wave_splits

# Ids of a prediction that one pass finds.
MAX_K = 64
TILES = Tiles(32, 128, 64, 4, 3, resident=2)
MERGED_PREDICTIONS = 4
MERGING_WARPS = 8
INTERPRETED_TILES = Tiles(16, 64, 16, 1, 1)

NO_KEY = tl.constexpr(-(1 << 63))
# Below it lie NO_KEY and the empty places; of all floats only one pattern of NaN would too.
LOWEST_KEY = tl.constexpr(-(1 << 63) + (1 << 32))
LOW_31_BITS = tl.constexpr(0x7FFFFFFF)


@triton.jit
def to_keys(scores, ids):
    """Keys that order by score and, of equal scores, by lowest id."""
    # -0.0 and 0.0 are equal, and must have one pattern of bits.
    bits = tl.where(scores == 0.0, 0.0, scores).to(tl.int32, bitcast=True)
    ordered = tl.where(bits < 0, bits ^ LOW_31_BITS, bits).to(tl.int64)
    return (ordered << 32) | (ids ^ LOW_31_BITS).to(tl.int64)


@triton.jit
def scores_of(keys):
    """Scores of keys; 0 where there is none."""
    ordered = (keys >> 32).to(tl.int32)
    bits = tl.where(ordered < 0, ordered ^ LOW_31_BITS, ordered)
    return tl.where(keys < LOWEST_KEY, 0.0, bits.to(tl.float32, bitcast=True))


@triton.jit
def ids_of(keys):
    """Ids of keys; 0 where there is none."""
    return tl.where(keys < LOWEST_KEY, 0, (keys & LOW_31_BITS) ^ LOW_31_BITS)


@triton.jit
def no_keys(BLOCK_M: tl.constexpr, WIDTH: tl.constexpr):
    """Places for WIDTH keys of each row, all empty and all different."""
    return tl.full((BLOCK_M, WIDTH), NO_KEY, dtype=tl.int64) + tl.arange(0, WIDTH)[None, :]


@triton.jit
def insert_keys(best, keys):
    """The largest of ``best`` and ``keys`` of each row, as many as ``best`` holds, unordered."""
    largest = tl.max(keys, axis=1)
    smallest = tl.min(best, axis=1)
    # One key of every row a turn; no turn where a tile has nothing to add, which is the rule.
    while tl.max((largest > smallest).to(tl.int32), axis=0) > 0:
        is_replaced = (best == smallest[:, None]) & (largest > smallest)[:, None]
        best = tl.where(is_replaced, largest[:, None], best)
        keys = tl.where(keys == largest[:, None], NO_KEY, keys)
        largest = tl.max(keys, axis=1)
        smallest = tl.min(best, axis=1)
    return best


@triton.jit(do_not_specialize=("num_predictions", "num_tokens", "num_sets", "num_splits"))
def best_of_part_kernel(
    hidden_ptr,
    weight_ptr,
    bias_ptr,
    rows_ptr,
    words_ptr,
    set_index_ptr,
    tile_order_ptr,
    tiles_before_ptr,
    ceiling_ptr,
    partial_keys_ptr,
    partial_ptr,
    num_predictions,
    vocabulary_size,
    hidden_size,
    num_tokens,
    num_sets,
    num_words,
    num_splits,
    WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_E: tl.constexpr,
    EVEN_E: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SETS: tl.constexpr,
    SKIPS_TILES: tl.constexpr,
    HAS_CEILING: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Best keys and softmax statistics of predictions over a part of the vocabulary."""
    split = tl.program_id(1)
    predictions = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    rows, is_row = load_rows(rows_ptr, predictions, num_predictions, num_tokens)
    set_offsets, is_set = load_set_offsets(
        set_index_ptr, predictions, num_predictions, num_sets, num_words, SETS
    )
    is_prediction = is_row & is_set
    maximum = tl.full((BLOCK_M,), -float("inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    best = no_keys(BLOCK_M, WIDTH)
    num_tiles = tl.cdiv(vocabulary_size, BLOCK_V)
    if SKIPS_TILES:
        num_tiles = tl.load(tiles_before_ptr + num_tiles)
    tiles_per_split = tl.cdiv(num_tiles, num_splits)
    first = split * tiles_per_split
    for position in range(first, tl.minimum(first + tiles_per_split, num_tiles)):
        tile = tl.load(tile_order_ptr + position) if SKIPS_TILES else position
        ids = tile * BLOCK_V + tl.arange(0, BLOCK_V)
        is_member = tile_membership(
            words_ptr, set_offsets, tile, vocabulary_size, num_words, BLOCK_M, BLOCK_V, SETS
        )
        is_member = is_member & is_prediction[:, None]
        scores = project(
            hidden_ptr, rows * hidden_size, weight_ptr, bias_ptr, ids, vocabulary_size, hidden_size,
            BLOCK_M, BLOCK_V, BLOCK_E, EVEN_E, HAS_BIAS, PRECISION, UPCAST,
        )  # fmt: skip
        maximum, total = add_to_softmax(maximum, total, scores, is_member)
        keys = tl.where(is_member, to_keys(scores, ids[None, :]), NO_KEY)
        if HAS_CEILING:
            ceiling = tl.load(
                ceiling_ptr + predictions, mask=predictions < num_predictions, other=NO_KEY
            )
            keys = tl.where(keys < ceiling[:, None], keys, NO_KEY)
        best = insert_keys(best, keys)

    inside = predictions < num_predictions
    partial_rows = split.to(tl.int64) * num_predictions + predictions
    ranks = tl.arange(0, WIDTH)
    key_pointers = partial_keys_ptr + partial_rows[:, None] * WIDTH + ranks[None, :]
    tl.store(key_pointers, best, mask=inside[:, None])
    partial_ptr += split.to(tl.int64) * 2 * num_predictions + predictions
    tl.store(partial_ptr, maximum, mask=inside)
    tl.store(partial_ptr + num_predictions, total, mask=inside)


@triton.jit(do_not_specialize=("num_predictions", "num_splits", "k"))
def merge_parts_kernel(
    partial_keys_ptr,
    partial_ptr,
    log_probabilities_ptr,
    ids_ptr,
    floor_ptr,
    num_predictions,
    num_splits,
    k,
    WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Merge the parts of each prediction and order its best ids by log-probability."""
    predictions = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = predictions < num_predictions
    ranks = tl.arange(0, WIDTH)
    maximum = tl.full((BLOCK_M,), -float("inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    best = no_keys(BLOCK_M, WIDTH)
    for split in range(num_splits):
        rows = tl.zeros_like(predictions).to(tl.int64) + split
        rows = rows * num_predictions + predictions
        pointers = partial_keys_ptr + rows[:, None] * WIDTH + ranks[None, :]
        keys = tl.load(pointers, mask=inside[:, None], other=NO_KEY)
        best = insert_keys(best, tl.where(keys < LOWEST_KEY, NO_KEY, keys))
        pointers = partial_ptr + rows + split * num_predictions
        part_maximum = tl.load(pointers, mask=inside, other=-float("inf"))
        part_total = tl.load(pointers + num_predictions, mask=inside, other=0.0)
        maximum, total = merge_softmax(maximum, total, part_maximum, part_total)
    tl.store(floor_ptr + predictions, tl.min(best, axis=1), mask=inside)
    log_normaliser = log_normaliser_of(maximum, total)
    has_id = best >= LOWEST_KEY
    log_probabilities = scores_of(best) - tl.where(has_id, log_normaliser[:, None], 0.0)
    # Different scores can round to equal log-probabilities: these are ordered by id as well.
    keys = tl.where(has_id, to_keys(log_probabilities, ids_of(best).to(tl.int32)), best)
    places = tl.sum((keys[:, None, :] > keys[:, :, None]).to(tl.int32), axis=2)
    stored = inside[:, None] & (places < k)
    offsets = predictions.to(tl.int64)[:, None] * k + places
    values = tl.where(has_id, log_probabilities, -float("inf"))
    tl.store(log_probabilities_ptr + offsets, values, mask=stored)
    tl.store(ids_ptr + offsets, ids_of(keys), mask=stored)


def best_ids(projection: Projection, k: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities in fp32 and ids in int64, [M, k]; M at least 1."""
    if k <= MAX_K:
        found = _pass(projection, k, None)
        return found.log_probabilities, found.ids
    passes: list[_Best] = []
    for _ in range(ceil_div(k, MAX_K)):
        passes.append(_pass(projection, MAX_K, passes[-1].floor if passes else None))
    values = torch.cat([found.log_probabilities for found in passes], dim=1)
    ids = torch.cat([found.ids for found in passes], dim=1)
    # Scores of two passes can round to one log-probability, too: order by it and then by id.
    ids, order = ids.sort(dim=1, stable=True)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values[:, :k].contiguous(), ids.gather(1, order)[:, :k].contiguous()


@dataclass(frozen=True, eq=False)
class _Best:
    """Log-probabilities and ids [M, k] of a pass, and the last of its keys [M]."""

    log_probabilities: Tensor
    ids: Tensor
    floor: Tensor


def _pass(projection: Projection, k: int, ceiling: Tensor | None) -> _Best:
    """The k best ids, at most MAX_K, of those whose keys are below the ceiling."""
    num_predictions = len(projection.rows)
    device = projection.hidden.device
    width = next_power_of_2(k)
    keys, partial = _best_of_parts(projection, width, ceiling)
    best = _Best(
        torch.empty((num_predictions, k), dtype=torch.float32, device=device),
        torch.empty((num_predictions, k), dtype=torch.int64, device=device),
        torch.empty(num_predictions, dtype=torch.int64, device=device),
    )
    merge_parts_kernel[(ceil_div(num_predictions, MERGED_PREDICTIONS),)](
        keys,
        partial,
        best.log_probabilities,
        best.ids,
        best.floor,
        num_predictions,
        len(keys),
        k,
        WIDTH=width,
        BLOCK_M=MERGED_PREDICTIONS,
        num_warps=MERGING_WARPS,
    )
    return best


def _best_of_parts(
    projection: Projection, width: int, ceiling: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Keys [splits, M, width] and statistics [splits, 2, M] of parts of the vocabulary."""
    num_predictions, vocabulary_size = len(projection.rows), len(projection.weight)
    device = projection.hidden.device
    tiles = INTERPRETED_TILES if INTERPRETED else TILES
    row_tiles = ceil_div(num_predictions, tiles.predictions)
    num_splits = whole_wave_splits(
        row_tiles,
        ceil_div(vocabulary_size, tiles.vocabulary),
        programs=tiles.resident * multiprocessors_of(device),
    )
    active = projection.active_tiles(tiles.vocabulary)
    keys = torch.empty((num_splits, num_predictions, width), dtype=torch.int64, device=device)
    partial = torch.empty((num_splits, 2, num_predictions), dtype=torch.float32, device=device)
    best_of_part_kernel[row_tiles, num_splits](
        **projection.pointers(),
        **projection.sizes(),
        tile_order_ptr=projection.rows if active is None else active.order,
        tiles_before_ptr=projection.rows if active is None else active.before,
        ceiling_ptr=keys if ceiling is None else ceiling,
        partial_keys_ptr=keys,
        partial_ptr=partial,
        num_splits=num_splits,
        WIDTH=width,
        BLOCK_M=tiles.predictions,
        BLOCK_V=tiles.vocabulary,
        BLOCK_E=tiles.hidden,
        EVEN_E=projection.hidden.shape[1] % tiles.hidden == 0,
        HAS_BIAS=projection.bias is not None,
        SETS=projection.sets,
        SKIPS_TILES=active is not None,
        HAS_CEILING=ceiling is not None,
        PRECISION=projection.precision,
        UPCAST=projection.upcast,
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
    )
    return keys, partial
