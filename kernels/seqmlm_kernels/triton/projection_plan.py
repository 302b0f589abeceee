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

Slabs and splits are chosen by `waves`. A slab of which no id is allowed takes its three launches
too, because only the device knows: hence few slabs, if that costs little.

The thresholds are bounds on memory; where the regimes cross in time is not measured.
"""

# M predictions, V vocabulary, E hidden size

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from seqmlm_kernels.triton.launch import INTERPRETED
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
WORD_BITS = 32


@dataclass(frozen=True)
class Tiles:
    """Tile sizes of one kernel and how it is launched.

    Args:
        predictions, vocabulary, hidden: sizes.
        num_warps: warps of a program.
        num_stages: how many inner tiles are in flight.
        resident: programs that a multiprocessor runs at a time, by their registers and shared
            memory as compiled (held by tests/kernels/triton/test_projection_plan.py); 1 also
            where no compiled kernel has told.
    """

    predictions: int
    vocabulary: int
    hidden: int
    num_warps: int
    num_stages: int
    resident: int = 1


@dataclass(frozen=True)
class Bounds:
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
        scores: of the kernels that compute scores; its vocabulary tile is the unit that sets of
            allowed ids switch off.
        hidden_gradient, weight_gradient: of the two products of the backward.
        vocabulary_splits: programs that share the vocabulary of one tile of predictions in the
            forward.
        chunk_predictions: predictions whose score gradient is held at a time.
        slab_vocabulary: ids whose score gradient is held at a time, a multiple of the tile.
        hidden_splits: programs that share the slab of one tile of hidden gradient.
        prediction_splits: programs that share the predictions of one tile of weight gradient.
        one_pass: None where the vocabulary has more than `ONE_PASS_VOCABULARY` ids.
    """

    scores: Tiles
    hidden_gradient: Tiles
    weight_gradient: Tiles
    vocabulary_splits: int
    chunk_predictions: int
    slab_vocabulary: int
    hidden_splits: int
    prediction_splits: int
    one_pass: OnePass | None = None


# (scores, hidden gradient, weight gradient) by architecture and bytes of an element. Registers
# and shared memory of each are held by tests/kernels/triton/projection_variants.py.
_TILES: dict[tuple[str, int], tuple[Tiles, Tiles, Tiles]] = {
    ("sm_80", 2): (
        Tiles(128, 128, 32, 8, 4),
        Tiles(128, 32, 128, 8, 4),
        Tiles(32, 128, 128, 8, 4, resident=2),
    ),
    ("sm_90", 2): (
        Tiles(128, 128, 64, 8, 3),
        Tiles(128, 64, 128, 8, 3),
        Tiles(64, 128, 256, 8, 3),
    ),
    ("sm_100", 2): (
        Tiles(128, 128, 64, 8, 3),
        Tiles(128, 64, 128, 8, 3),
        Tiles(64, 128, 256, 8, 3),
    ),
    ("gfx942", 2): (
        Tiles(128, 128, 64, 8, 2),
        Tiles(128, 64, 128, 8, 2),
        Tiles(64, 128, 128, 8, 2),
    ),
    ("small_shared_memory", 2): (
        Tiles(128, 128, 32, 8, 3),
        Tiles(128, 32, 128, 8, 3),
        Tiles(32, 128, 128, 8, 3),
    ),
    ("interpreter", 2): (
        Tiles(16, 32, 16, 1, 1),
        Tiles(16, 16, 32, 1, 1),
        Tiles(16, 32, 32, 1, 1),
    ),
}
_FLOAT32_TILES = (
    Tiles(64, 64, 32, 4, 3),
    Tiles(64, 32, 64, 4, 3),
    Tiles(32, 64, 64, 4, 3),
)
# Of the backward in one kernel, but for the vocabulary, which one tile holds.
_ONE_PASS_TILES: dict[str, Tiles] = {
    "sm_80": Tiles(32, 0, 128, 8, 3),
    "sm_90": Tiles(64, 0, 128, 8, 3),
    "sm_100": Tiles(64, 0, 128, 8, 3),
    "gfx942": Tiles(64, 0, 128, 8, 2),
    "small_shared_memory": Tiles(32, 0, 128, 8, 3),
    "interpreter": Tiles(16, 0, 32, 1, 1),
}
_ONE_PASS_FLOAT32_TILES = Tiles(16, 0, 32, 4, 1)


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


def plan_projection(
    predictions: int,
    vocabulary: int,
    hidden_size: int,
    *,
    dtype: torch.dtype,
    architecture: str,
    multiprocessors: int,
) -> ProjectionPlan:
    """Cut the work for a GPU of that architecture and number of multiprocessors.

    Args:
        predictions: at least 1.
    """
    bounds = Bounds(ONE_TILE_VOCABULARY, SLAB_BYTES, CHUNK_PREDICTIONS, FLOP_PER_BYTE)
    size = predictions, vocabulary, hidden_size
    return _plan(*size, dtype, architecture, multiprocessors, bounds)


# The forward, the backward and all steps of as many predictions share one.
@functools.lru_cache(maxsize=256)
def _plan(
    predictions: int,
    vocabulary: int,
    hidden_size: int,
    dtype: torch.dtype,
    architecture: str,
    multiprocessors: int,
    bounds: Bounds,
) -> ProjectionPlan:
    scores, hidden_gradient, weight_gradient = _tiles(
        architecture, dtype, vocabulary, bounds.one_tile_vocabulary
    )
    gradient_splits = partial(
        _gradient_splits, multiprocessors=multiprocessors, flop_per_byte=bounds.flop_per_byte
    )
    vocabulary_tiles = ceil_div(vocabulary, scores.vocabulary)
    row_tiles = ceil_div(predictions, scores.predictions)
    chunks = ceil_div(predictions, bounds.chunk_predictions)
    chunk = ceil_div(row_tiles, chunks) * scores.predictions
    weight_programs = ceil_div(hidden_size, weight_gradient.hidden)
    weight_programs *= scores.vocabulary // weight_gradient.vocabulary
    programs = weight_gradient.resident * multiprocessors
    slab_tiles = whole_wave_slab(
        vocabulary_tiles,
        max(1, bounds.slab_bytes // (chunk * scores.vocabulary * dtype.itemsize)),
        weight_programs,
        programs,
        slab_waves=_slab_waves(weight_gradient, chunk, hidden_size, programs, bounds),
    )
    return ProjectionPlan(
        scores=scores,
        hidden_gradient=hidden_gradient,
        weight_gradient=weight_gradient,
        vocabulary_splits=whole_wave_splits(
            row_tiles, vocabulary_tiles, programs=scores.resident * multiprocessors
        ),
        chunk_predictions=chunk,
        slab_vocabulary=slab_tiles * scores.vocabulary,
        hidden_splits=gradient_splits(
            replace(hidden_gradient, vocabulary=scores.vocabulary),
            ceil_div(chunk, hidden_gradient.predictions)
            * ceil_div(hidden_size, hidden_gradient.hidden),
            slab_tiles,
            numbers=predictions * hidden_size,
        ),
        prediction_splits=gradient_splits(
            weight_gradient,
            slab_tiles * weight_programs,
            ceil_div(chunk, weight_gradient.predictions),
            numbers=vocabulary * hidden_size,
        ),
        one_pass=_one_pass(
            _one_pass_tiles(architecture, dtype, scores.vocabulary),
            predictions,
            vocabulary,
            hidden_size,
            min(ONE_PASS_VOCABULARY, bounds.one_tile_vocabulary),
            gradient_splits,
        ),
    )


def _slab_waves(tiles: Tiles, chunk: int, hidden_size: int, programs: int, bounds: Bounds) -> float:
    """Waves of weight gradient that take as long as three launches and the sum over slabs."""
    to_memory_and_back = 8 * chunk * hidden_size * bounds.flop_per_byte  # in fp32
    wave = programs * 2 * chunk * tiles.vocabulary * tiles.hidden
    return (3 * FLOP_PER_LAUNCH + to_memory_and_back) / wave


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


def _tiles(
    architecture: str, dtype: torch.dtype, vocabulary: int, one_tile_vocabulary: int
) -> tuple[Tiles, Tiles, Tiles]:
    is_float32 = dtype == torch.float32 and architecture != "interpreter"
    tiles = _FLOAT32_TILES if is_float32 else _TILES[architecture, 2]
    return _one_tile(vocabulary, *tiles) if vocabulary <= one_tile_vocabulary else tiles


def _one_tile(
    vocabulary: int, scores: Tiles, hidden_gradient: Tiles, weight_gradient: Tiles
) -> tuple[Tiles, Tiles, Tiles]:
    """Tiles as wide as the vocabulary; fewer predictions each, so that more programs share them."""
    width = max(WORD_BITS, 1 << (vocabulary - 1).bit_length())
    rows = min(scores.predictions, 64)
    warps = scores.num_warps if width > 128 else min(scores.num_warps, 4)
    return (
        replace(scores, predictions=rows, vocabulary=width, num_warps=warps),
        replace(hidden_gradient, vocabulary=min(width, hidden_gradient.vocabulary)),
        replace(
            weight_gradient,
            vocabulary=min(width, weight_gradient.vocabulary),
            hidden=min(weight_gradient.hidden, 128),
            num_warps=min(weight_gradient.num_warps, 4),
        ),
    )


def _one_pass_tiles(architecture: str, dtype: torch.dtype, width: int) -> Tiles:
    is_float32 = dtype == torch.float32 and architecture != "interpreter"
    tiles = _ONE_PASS_FLOAT32_TILES if is_float32 else _ONE_PASS_TILES[architecture]
    return replace(tiles, vocabulary=width)


def _one_pass(
    tiles: Tiles,
    predictions: int,
    vocabulary: int,
    hidden_size: int,
    most_vocabulary: int,
    gradient_splits: Callable[..., int],
) -> OnePass | None:
    if vocabulary > most_vocabulary:
        return None
    splits = gradient_splits(
        tiles,
        ceil_div(hidden_size, tiles.hidden),
        ceil_div(predictions, tiles.predictions),
        numbers=vocabulary * hidden_size,
    )
    return OnePass(tiles, splits)
