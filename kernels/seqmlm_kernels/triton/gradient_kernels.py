"""Kernels of the backward of a projection onto the vocabulary; see projection_backward."""

# M predictions of a chunk, V vocabulary, E hidden size

from __future__ import annotations

import triton
import triton.language as tl

from seqmlm_kernels.triton.repeated_rows import ALONE
from seqmlm_kernels.triton.vocabulary import (
    kept_scores,
    load_float,
    load_rows,
    load_set_offsets,
    may_hold_member,
    project,
    score_gradient_of_tile,
)


@triton.jit(do_not_specialize=("num_predictions", "num_tokens", "num_sets", "slab_tile"))
def score_gradient_kernel(
    hidden_ptr,
    weight_ptr,
    bias_ptr,
    rows_ptr,
    words_ptr,
    set_index_ptr,
    targets_ptr,
    loss_gradient_ptr,
    log_normaliser_gradient_ptr,
    log_normaliser_ptr,
    tiles_before_ptr,
    scores_ptr,
    score_gradient_ptr,
    bias_partial_ptr,
    num_predictions,
    vocabulary_size,
    hidden_size,
    num_tokens,
    num_sets,
    num_words,
    slab_tile,
    slab_size,
    score_stride,
    BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_E: tl.constexpr,
    EVEN_E: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SETS: tl.constexpr,
    SKIPS_TILES: tl.constexpr,
    HAS_SCORES: tl.constexpr,
    NEEDS_BIAS_GRADIENT: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Gradient of the scores of one tile of predictions and one of the vocabulary."""
    tile = slab_tile + tl.program_id(1)
    if SKIPS_TILES:
        num_active = tl.load(tiles_before_ptr + tile + 1) - tl.load(tiles_before_ptr + tile)
        if num_active == 0:
            return
    predictions = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = predictions < num_predictions
    rows, is_row = load_rows(rows_ptr, predictions, num_predictions, num_tokens)
    set_offsets, is_set = load_set_offsets(
        set_index_ptr, predictions, num_predictions, num_sets, num_words, SETS
    )
    is_prediction = is_row & is_set
    ids = tile * BLOCK_V + tl.arange(0, BLOCK_V)
    gradient = tl.zeros((BLOCK_M, BLOCK_V), dtype=tl.float32)
    if may_hold_member(words_ptr, set_offsets, tile, num_words, BLOCK_V, SETS):
        if HAS_SCORES:
            pointers, exists = kept_scores(
                scores_ptr, predictions, ids, num_predictions, score_stride
            )
            scores = tl.load(pointers, mask=exists, other=0.0)
        else:
            scores = project(
                hidden_ptr, rows * hidden_size, weight_ptr, bias_ptr, ids, vocabulary_size,
                hidden_size, BLOCK_M, BLOCK_V, BLOCK_E, EVEN_E, HAS_BIAS, PRECISION, UPCAST,
            )  # fmt: skip
        gradient = score_gradient_of_tile(
            scores, log_normaliser_ptr, loss_gradient_ptr, log_normaliser_gradient_ptr,
            targets_ptr, words_ptr, set_offsets, predictions, is_prediction, tile,
            num_predictions, vocabulary_size, num_words, BLOCK_M, BLOCK_V, SETS,
        )  # fmt: skip
    columns = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    pointers = predictions.to(tl.int64)[:, None] * slab_size + columns[None, :]
    tl.store(score_gradient_ptr + pointers, gradient, mask=inside[:, None])
    if NEEDS_BIAS_GRADIENT:
        partial = bias_partial_ptr + tl.program_id(0) * slab_size + columns
        tl.store(partial, tl.sum(gradient, axis=0))


@triton.jit
def store_where_alone(
    gradient, output_ptr, rank_ptr, rows, is_row, predictions, inside, units, stored, hidden_size
):
    """Store finished gradients of rows with one prediction; which numbers the others have left.

    Most rows have one: their sum ends here and needs no detour.
    """
    is_only = tl.load(rank_ptr + predictions, mask=inside, other=0) == ALONE
    pointers = output_ptr + rows[:, None] * hidden_size + units[None, :]
    tl.store(pointers, gradient, mask=stored & (is_only & is_row)[:, None])
    return stored & (is_only == 0)[:, None]


@triton.jit(
    do_not_specialize=(
        "num_predictions",
        "num_tokens",
        "slab_tile",
        "num_slab_tiles",
        "num_splits",
    )
)
def hidden_gradient_kernel(
    score_gradient_ptr,
    weight_ptr,
    rows_ptr,
    rank_ptr,
    tile_order_ptr,
    tiles_before_ptr,
    scale_ptr,
    sum_ptr,
    output_ptr,
    num_predictions,
    vocabulary_size,
    hidden_size,
    num_tokens,
    slab_tile,
    num_slab_tiles,
    slab_size,
    num_splits,
    split_stride,
    TILE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_E: tl.constexpr,
    EVEN_E: tl.constexpr,
    SKIPS_TILES: tl.constexpr,
    IS_SPLIT: tl.constexpr,
    IS_FIRST_SLAB: tl.constexpr,
    ENDS_SUM: tl.constexpr,
    SCALES: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Score gradient of a slab times the weight: gradient of gathered hidden states."""
    units = tl.program_id(0) * BLOCK_E + tl.arange(0, BLOCK_E)
    is_unit = units < hidden_size
    predictions = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = predictions < num_predictions
    safe_predictions = tl.minimum(predictions, num_predictions - 1).to(tl.int64)
    row_pointers = score_gradient_ptr + safe_predictions[:, None] * slab_size
    unit_pointers = weight_ptr + units[None, :]
    gradient = tl.zeros((BLOCK_M, BLOCK_E), dtype=tl.float32)
    steps_per_tile: tl.constexpr = TILE // BLOCK_V
    first = slab_tile
    last = slab_tile + num_slab_tiles
    if SKIPS_TILES:
        first = tl.load(tiles_before_ptr + first)
        last = tl.load(tiles_before_ptr + last)
    if IS_SPLIT:
        tiles_per_split = tl.cdiv(last - first, num_splits)
        first += tl.program_id(2) * tiles_per_split
        last = tl.minimum(first + tiles_per_split, last)
        sum_ptr += tl.program_id(2).to(tl.int64) * split_stride
    for step in range(first * steps_per_tile, last * steps_per_tile):
        tile = step // steps_per_tile
        if SKIPS_TILES:
            tile = tl.load(tile_order_ptr + tile)
        start = (tile - slab_tile) * TILE + (step % steps_per_tile) * BLOCK_V
        columns = start + tl.arange(0, BLOCK_V)
        scores = load_float(row_pointers + columns[None, :], None, False, UPCAST)
        # Past the vocabulary the gradient of the scores is zero; the last id stands in.
        ids = tl.minimum(slab_tile * TILE + columns, vocabulary_size - 1).to(tl.int64)
        weight_pointers = unit_pointers + ids[:, None] * hidden_size
        weight = load_float(weight_pointers, is_unit[None, :], not EVEN_E, UPCAST)
        gradient = tl.dot(scores, weight, gradient, input_precision=PRECISION)

    if SCALES:
        gradient *= tl.load(scale_ptr)
    stored = inside[:, None] & is_unit[None, :]
    sum_pointers = sum_ptr + predictions.to(tl.int64)[:, None] * hidden_size + units[None, :]
    if not IS_FIRST_SLAB:
        gradient += tl.load(sum_pointers, mask=stored, other=0.0)
    if ENDS_SUM:
        rows, is_row = load_rows(rows_ptr, predictions, num_predictions, num_tokens)
        stored = store_where_alone(
            gradient, output_ptr, rank_ptr, rows, is_row, predictions, inside, units, stored,
            hidden_size,
        )  # fmt: skip
    tl.store(sum_pointers, gradient, mask=stored)


@triton.jit(do_not_specialize=("num_predictions", "num_tokens", "slab_tile", "steps_per_split"))
def weight_gradient_kernel(
    score_gradient_ptr,
    hidden_ptr,
    rows_ptr,
    tiles_before_ptr,
    scale_ptr,
    output_ptr,
    num_predictions,
    vocabulary_size,
    hidden_size,
    num_tokens,
    slab_tile,
    slab_size,
    steps_per_split,
    TILE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_E: tl.constexpr,
    EVEN_E: tl.constexpr,
    SKIPS_TILES: tl.constexpr,
    ADDS: tl.constexpr,
    SCALES: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Score gradient of a slab, transposed, times the gathered hidden states."""
    split = tl.program_id(2)
    units = tl.program_id(0) * BLOCK_E + tl.arange(0, BLOCK_E)
    is_unit = units < hidden_size
    columns = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    first = split * steps_per_split
    last = tl.minimum(first + steps_per_split, tl.cdiv(num_predictions, BLOCK_M))
    if SKIPS_TILES:
        tile = slab_tile + tl.program_id(1) * BLOCK_V // TILE
        if tl.load(tiles_before_ptr + tile + 1) == tl.load(tiles_before_ptr + tile):
            last = first
    gradient = tl.zeros((BLOCK_V, BLOCK_E), dtype=tl.float32)
    for step in range(first, last):
        predictions = step * BLOCK_M + tl.arange(0, BLOCK_M)
        inside = predictions < num_predictions
        pointers = predictions.to(tl.int64)[None, :] * slab_size + columns[:, None]
        scores = load_float(score_gradient_ptr + pointers, inside[None, :], True, UPCAST)
        rows, _ = load_rows(rows_ptr, predictions, num_predictions, num_tokens)
        pointers = rows[:, None] * hidden_size + units[None, :]
        hidden = load_float(hidden_ptr + pointers, is_unit[None, :], not EVEN_E, UPCAST)
        gradient = tl.dot(scores, hidden, gradient, input_precision=PRECISION)

    if SCALES:
        gradient *= tl.load(scale_ptr)
    ids = slab_tile * TILE + columns
    stored = (ids < vocabulary_size)[:, None] & is_unit[None, :]
    output_rows = (split.to(tl.int64) * vocabulary_size + ids) * hidden_size
    pointers = output_ptr + output_rows[:, None] + units[None, :]
    if ADDS:
        gradient += tl.load(pointers, mask=stored, other=0.0)
    tl.store(pointers, gradient, mask=stored)
