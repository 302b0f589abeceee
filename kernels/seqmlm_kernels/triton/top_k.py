"""The k best ids of each prediction: the best of each part of the vocabulary, then merged.

A score and its id make one 64-bit key that sorts by score and then by lowest id, so that no
comparison ever ties. Keys of a tile enter the k best so far one at a time, largest first, for as
long as one of them is better: after the first tiles that is rare.
"""

# M predictions, V vocabulary, E hidden size

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqmlm_kernels.triton.launch import INTERPRETED
from seqmlm_kernels.triton.projection_forward import Projection
from seqmlm_kernels.triton.projection_plan import Tiles, multiprocessors_of, split_evenly
from seqmlm_kernels.triton.vocabulary import (
    add_to_softmax,
    load_rows,
    load_set_offsets,
    log_normaliser_of,
    project,
    tile_membership,
)

# More would not stay in the registers of a program.
MAX_K = 64
TILES = Tiles(32, 128, 64, 4, 3)
MERGED_PREDICTIONS = 4
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
        safe_ids = tl.minimum(ids, vocabulary_size - 1)
        scores = project(
            hidden_ptr,
            rows * hidden_size,
            weight_ptr,
            safe_ids.to(tl.int64) * hidden_size,
            bias_ptr,
            safe_ids,
            hidden_size,
            BLOCK_M,
            BLOCK_V,
            BLOCK_E,
            EVEN_E,
            HAS_BIAS,
            PRECISION,
            UPCAST,
        )
        maximum, total = add_to_softmax(maximum, total, scores, is_member)
        keys = tl.where(is_member, to_keys(scores, ids[None, :]), NO_KEY)
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
        new_maximum = tl.maximum(maximum, part_maximum)
        reference = tl.where(new_maximum == -float("inf"), 0.0, new_maximum)
        total = total * tl.exp2(maximum - reference)
        total += part_total * tl.exp2(part_maximum - reference)
        maximum = new_maximum
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
    """Log-probabilities in fp32 and ids in int64, [M, k]; M at least 1, k at most `MAX_K`."""
    num_predictions, vocabulary_size = len(projection.rows), len(projection.weight)
    device = projection.hidden.device
    tiles = INTERPRETED_TILES if INTERPRETED else TILES
    width = triton.next_power_of_2(k)
    row_tiles = triton.cdiv(num_predictions, tiles.predictions)
    vocabulary_tiles = triton.cdiv(vocabulary_size, tiles.vocabulary)
    num_splits = split_evenly(4 * multiprocessors_of(device), row_tiles, vocabulary_tiles)
    active = projection.active_tiles(tiles.vocabulary)
    keys = torch.empty((num_splits, num_predictions, width), dtype=torch.int64, device=device)
    partial = torch.empty((num_splits, 2, num_predictions), dtype=torch.float32, device=device)
    best_of_part_kernel[row_tiles, num_splits](
        **projection.pointers(),
        **projection.sizes(),
        tile_order_ptr=projection.rows if active is None else active.order,
        tiles_before_ptr=projection.rows if active is None else active.before,
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
        PRECISION=projection.precision,
        UPCAST=projection.upcast,
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
    )
    log_probabilities = torch.empty((num_predictions, k), dtype=torch.float32, device=device)
    ids = torch.empty((num_predictions, k), dtype=torch.int64, device=device)
    merge_parts_kernel[(triton.cdiv(num_predictions, MERGED_PREDICTIONS),)](
        keys,
        partial,
        log_probabilities,
        ids,
        num_predictions,
        num_splits,
        k,
        WIDTH=width,
        BLOCK_M=MERGED_PREDICTIONS,
        num_warps=4,
    )
    return log_probabilities, ids
