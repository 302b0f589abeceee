"""How a projection onto the vocabulary is cut into tiles, chunks and splits.

Three regimes, by size, of one pair of kernels, so that they give the same numbers:

one tile: V <= 256. One tile holds the vocabulary, so there is nothing to merge. Up to 64 ids the
    backward is a single pass, `one_pass`, if scores were kept.
materialised: the scores of a training step that fit `MATERIALISED_BYTES` are kept in fp32 from the
    forward for the backward: 6 M V E operations.
recomputed: anything larger, and all inference. The forward keeps two numbers a prediction; the
    backward computes the scores again: 8 M V E operations.

The gradient of the scores is held for one chunk of predictions and one slab of the vocabulary at a
time, at most `SLAB_BYTES`, in every regime. Accumulating both products in registers instead would
compute the scores once more for every 256 hidden units, which no wider accumulator fits: 14 M V E
for 768.

Slabs and splits are chosen by `waves`: the forward and the weight gradient of a slab come in
nearly whole waves, unless one tile holds the vocabulary or `SLAB_BYTES` leave less than a wave
(more than 11,900 predictions of 768 units on 132 multiprocessors). The hidden gradient has as many
programs in every slab, however wide, and is split into whole waves only where the sums of its
parts, which every slab reads and writes, take less time than a last wave that is not full. A slab
of which no id is allowed takes its three launches too, because only the device knows: hence few
slabs, if that costs little.

The thresholds are bounds on memory; where the regimes cross in time is not measured.
"""

# M predictions, V vocabulary, E hidden size

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from seqmlm_kernels.triton.launch import INTERPRETED
from seqmlm_kernels.triton.projection_tiles import (
    WORD_BITS,
    ProjectionTiles,
    Regime,
    Tiles,
    narrowed,
    tiles_of,
)
from seqmlm_kernels.triton.waves import ceil_div, whole_wave_slab, whole_wave_splits

ONE_TILE_VOCABULARY = 256
ONE_PASS_VOCABULARY = 64
MATERIALISED_BYTES = 256 << 20
SLAB_BYTES = 128 << 20
# More rows than this at a time leave too few columns of a slab for efficient products.
CHUNK_PREDICTIONS = 16384
# Partial sums of splits: of the two gradients at most this much memory each.
PARTIAL_BYTES = 64 << 20
# Products that take as long as moving a byte: 989 TFLOP/s in bf16 and 4.8 TB/s, an H200.
FLOP_PER_BYTE = 206
# Products that take as long as a launch: 989 TFLOP/s for 5 us, the least between two kernels.
FLOP_PER_LAUNCH = 5_000_000_000


class Bounds(NamedTuple):
    """What plans are weighed by: the constants of this module of the same names."""

    one_tile_vocabulary: int
    slab_bytes: int
    chunk_predictions: int
    flop_per_byte: int


@dataclass(frozen=True)
class OnePass:
    """How the backward runs as one kernel.

    Args:
        tiles: of it; its vocabulary tile holds the whole of it.
        splits: programs that share the predictions of one tile of hidden units.
    """

    tiles: Tiles
    splits: int


@dataclass(frozen=True)
class ProjectionPlan:
    """All that the launchers of one projection need to know beyond its tensors.

    Args:
        scores, score_gradient, hidden_gradient, weight_gradient: as in `ProjectionTiles`.
        vocabulary_splits: programs that share the vocabulary of one tile of predictions in the
            forward.
        chunk_predictions: predictions whose score gradient is held at a time.
        slab_vocabulary: ids whose score gradient is held at a time, a multiple of the tile.
        hidden_splits: programs that share the slab of one tile of hidden gradient.
        prediction_splits: programs that share the predictions of one tile of weight gradient.
        one_pass: None where the vocabulary has more than `ONE_PASS_VOCABULARY` ids.
    """

    scores: Tiles
    score_gradient: Tiles
    hidden_gradient: Tiles
    weight_gradient: Tiles
    vocabulary_splits: int
    chunk_predictions: int
    slab_vocabulary: int
    hidden_splits: int
    prediction_splits: int
    one_pass: OnePass | None = None


@functools.cache
def multiprocessors_of(device: torch.device) -> int:
    """How many programs of one per multiprocessor fill the device."""
    if INTERPRETED:
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def score_stride(vocabulary: int) -> int:
    """Numbers from one row of kept scores to the next: whole words of ids, so that rows align."""
    return ceil_div(vocabulary, WORD_BITS) * WORD_BITS


def scores_are_kept(predictions: int, vocabulary: int) -> bool:
    """Whether the forward of a training step keeps its scores for the backward."""
    return predictions * score_stride(vocabulary) * 4 <= MATERIALISED_BYTES


def regime_of(predictions: int, vocabulary: int) -> Regime:
    """The regime of a training step of that size."""
    if vocabulary <= ONE_TILE_VOCABULARY:
        return "one_pass" if vocabulary <= ONE_PASS_VOCABULARY else "one_tile"
    return "materialised" if scores_are_kept(predictions, vocabulary) else "recomputed"


def plan_projection(
    predictions: int,
    vocabulary: int,
    hidden_size: int,
    *,
    dtype: torch.dtype,
    architecture: str,
    multiprocessors: int,
    tiles: ProjectionTiles | None = None,
) -> ProjectionPlan:
    """Cut the work for a GPU of that architecture and number of multiprocessors.

    Args:
        predictions: at least 1.
        tiles: of a vocabulary of many tiles; those of the table, `tiles_of`, when None.
    """
    size = _Size(predictions, vocabulary, hidden_size, dtype.itemsize)
    bounds = Bounds(ONE_TILE_VOCABULARY, SLAB_BYTES, CHUNK_PREDICTIONS, FLOP_PER_BYTE)
    return _plan(size, tiles or tiles_of(architecture, dtype), multiprocessors, bounds)


class _Size(NamedTuple):
    """What a call projects; an element of its matrices has so many bytes."""

    predictions: int
    vocabulary: int
    hidden: int
    itemsize: int


# The forward, the backward and all steps of as many predictions share one.
@functools.lru_cache(maxsize=256)
def _plan(
    size: _Size, tiles: ProjectionTiles, multiprocessors: int, bounds: Bounds
) -> ProjectionPlan:
    if size.vocabulary <= bounds.one_tile_vocabulary:
        tiles = narrowed(tiles, size.vocabulary)
    scores, weight_gradient = tiles.scores, tiles.weight_gradient
    gradient_splits = functools.partial(
        _gradient_splits, multiprocessors=multiprocessors, flop_per_byte=bounds.flop_per_byte
    )
    vocabulary_tiles = ceil_div(size.vocabulary, scores.vocabulary)
    chunk = _chunk(size, tiles.score_gradient, bounds)
    slab_tiles = _slab_tiles(size, tiles, chunk, multiprocessors, bounds)
    hidden_gradient = tiles.hidden_gradient
    return ProjectionPlan(
        scores=scores,
        score_gradient=tiles.score_gradient,
        hidden_gradient=hidden_gradient,
        weight_gradient=weight_gradient,
        vocabulary_splits=whole_wave_splits(
            ceil_div(size.predictions, scores.predictions),
            vocabulary_tiles,
            programs=scores.resident * multiprocessors,
        ),
        chunk_predictions=chunk,
        slab_vocabulary=slab_tiles * scores.vocabulary,
        hidden_splits=gradient_splits(
            replace(hidden_gradient, vocabulary=scores.vocabulary),
            ceil_div(chunk, hidden_gradient.predictions)
            * ceil_div(size.hidden, hidden_gradient.hidden),
            slab_tiles,
            numbers=size.predictions * size.hidden,
        ),
        prediction_splits=gradient_splits(
            weight_gradient,
            slab_tiles * _weight_programs(size, tiles),
            ceil_div(chunk, weight_gradient.predictions),
            numbers=size.vocabulary * size.hidden,
        ),
        one_pass=_one_pass(size, tiles.one_pass, bounds, gradient_splits),
    )


def _chunk(size: _Size, tiles: Tiles, bounds: Bounds) -> int:
    """Predictions of a chunk, whole tiles of them; as many in all chunks but the last."""
    row_tiles = ceil_div(size.predictions, tiles.predictions)
    chunks = ceil_div(size.predictions, bounds.chunk_predictions)
    return ceil_div(row_tiles, chunks) * tiles.predictions


def _weight_programs(size: _Size, tiles: ProjectionTiles) -> int:
    """Programs of weight gradient for each tile of the vocabulary."""
    wide = ceil_div(size.hidden, tiles.weight_gradient.hidden)
    return wide * (tiles.scores.vocabulary // tiles.weight_gradient.vocabulary)


def _slab_tiles(
    size: _Size, tiles: ProjectionTiles, chunk: int, multiprocessors: int, bounds: Bounds
) -> int:
    """Tiles of the vocabulary in a slab."""
    width, weight = tiles.scores.vocabulary, tiles.weight_gradient
    programs = weight.resident * multiprocessors
    # A slab costs three launches, and that of the hidden gradient adds to a sum in memory.
    sum_flop = 8 * chunk * size.hidden * bounds.flop_per_byte  # there and back in fp32
    wave_flop = programs * 2 * chunk * weight.vocabulary * weight.hidden
    return whole_wave_slab(
        ceil_div(size.vocabulary, width),
        max(1, bounds.slab_bytes // (chunk * width * size.itemsize)),
        _weight_programs(size, tiles),
        programs,
        slab_waves=(3 * FLOP_PER_LAUNCH + sum_flop) / wave_flop,
    )


def _gradient_splits(
    tiles: Tiles, count: int, steps: int, *, multiprocessors: int, numbers: int, flop_per_byte: int
) -> int:
    """Ways to share the steps of ``count`` tiles of a gradient of that many numbers."""
    return whole_wave_splits(
        count,
        steps,
        programs=tiles.resident * multiprocessors,
        most=PARTIAL_BYTES // (4 * numbers),
        split_work=8 * numbers * flop_per_byte,  # to memory and back, in fp32
        step_work=2 * tiles.predictions * tiles.vocabulary * tiles.hidden,
    )


def _one_pass(
    size: _Size, tiles: Tiles, bounds: Bounds, gradient_splits: Callable[..., int]
) -> OnePass | None:
    if size.vocabulary > min(ONE_PASS_VOCABULARY, bounds.one_tile_vocabulary):
        return None
    splits = gradient_splits(
        tiles,
        ceil_div(size.hidden, tiles.hidden),
        ceil_div(size.predictions, tiles.predictions),
        numbers=size.vocabulary * size.hidden,
    )
    return OnePass(tiles, splits)
