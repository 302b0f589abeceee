"""How a projection onto the vocabulary is cut into tiles, chunks and splits.

Three regimes, by size:

one tile: V <= 256. One tile holds the vocabulary, so there is nothing to merge, and the gradient
    of the scores is V numbers a prediction, written once.
materialised: scores of a training step that fit `MATERIALISED_BYTES` are kept from the forward
    for the backward: 6 M V E operations, all in the library's matrix product.
recomputed: anything larger, and all inference. The forward keeps two numbers a prediction; the
    backward computes the scores again: 8 M V E operations. Their gradient is held for one slab of
    the vocabulary at a time, at most `SLAB_BYTES`. Accumulating both products in registers
    instead would compute the scores once more for every 256 hidden units, which no wider
    accumulator fits: 14 M V E for 768.

The thresholds are bounds on memory; where the regimes cross in time is not measured.
"""

# M predictions, V vocabulary, E hidden size

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Literal

import torch

from seqmlm_kernels.triton.launch import INTERPRETED

Regime = Literal["one tile", "materialised", "recomputed"]

ONE_TILE_VOCABULARY = 256
MATERIALISED_BYTES = 256 << 20
SLAB_BYTES = 128 << 20
# More rows than this at a time leave too few columns of a slab for efficient products.
CHUNK_PREDICTIONS = 16384
# A partial weight gradient per split is memory: at most this many of them.
MAX_SPLITS = 64
WORD_BITS = 32


@dataclass(frozen=True)
class Tiles:
    """Tile sizes of one kernel and how it is launched."""

    predictions: int
    vocabulary: int
    hidden: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True)
class ProjectionPlan:
    """All that the launchers of one projection need to know beyond its tensors.

    Args:
        scores: of the kernels that compute scores; its vocabulary tile is the unit that sets of
            allowed ids switch off.
        hidden_gradient, weight_gradient: of the two products of the backward.
        vocabulary_splits: programs that share the vocabulary of one tile of predictions.
        chunk_predictions: predictions whose score gradient is held at a time.
        slab_vocabulary: ids whose score gradient is held at a time, a multiple of the tile.
        prediction_splits: programs that share the predictions of one tile of weight gradient.
    """

    scores: Tiles
    hidden_gradient: Tiles
    weight_gradient: Tiles
    vocabulary_splits: int
    chunk_predictions: int
    slab_vocabulary: int
    prediction_splits: int


# (scores, hidden gradient, weight gradient) by architecture and bytes of an element. Registers
# and shared memory of each are held by tests/kernels/triton/projection_variants.py.
_TILES: dict[tuple[str, int], tuple[Tiles, Tiles, Tiles]] = {
    ("sm_80", 2): (
        Tiles(128, 128, 32, 8, 4),
        Tiles(128, 32, 128, 8, 4),
        Tiles(32, 128, 128, 8, 4),
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


@functools.cache
def multiprocessors_of(device: torch.device) -> int:
    """How many programs of one per multiprocessor fill the device."""
    if INTERPRETED:
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def choose_regime(
    predictions: int, vocabulary: int, itemsize: int, *, keeps_scores: bool
) -> Regime:
    """Regime of a call; ``keeps_scores`` says that a backward follows which could use them."""
    if vocabulary <= ONE_TILE_VOCABULARY:
        return "one tile"
    if keeps_scores and predictions * vocabulary * itemsize <= MATERIALISED_BYTES:
        return "materialised"
    return "recomputed"


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
    scores, hidden_gradient, weight_gradient = _tiles(architecture, dtype)
    if vocabulary <= ONE_TILE_VOCABULARY:
        scores, hidden_gradient, weight_gradient = _one_tile(
            vocabulary, scores, hidden_gradient, weight_gradient
        )
    chunk = min(predictions, CHUNK_PREDICTIONS)
    columns = max(1, SLAB_BYTES // (chunk * dtype.itemsize))
    slab = max(scores.vocabulary, columns // scores.vocabulary * scores.vocabulary)
    slab = min(slab, _ceil_div(vocabulary, scores.vocabulary) * scores.vocabulary)
    wanted_programs = 2 * multiprocessors
    row_tiles = _ceil_div(predictions, scores.predictions)
    vocabulary_tiles = _ceil_div(vocabulary, scores.vocabulary)
    weight_tiles = _ceil_div(min(slab, vocabulary), weight_gradient.vocabulary) * _ceil_div(
        hidden_size, weight_gradient.hidden
    )
    steps = _ceil_div(chunk, 4 * weight_gradient.predictions)
    return ProjectionPlan(
        scores=scores,
        hidden_gradient=hidden_gradient,
        weight_gradient=weight_gradient,
        vocabulary_splits=split_evenly(wanted_programs, row_tiles, vocabulary_tiles),
        chunk_predictions=chunk,
        slab_vocabulary=slab,
        prediction_splits=split_evenly(multiprocessors, weight_tiles, steps),
    )


def _tiles(architecture: str, dtype: torch.dtype) -> tuple[Tiles, Tiles, Tiles]:
    if architecture == "interpreter" or dtype != torch.float32:
        return _TILES[architecture, 2]
    return _FLOAT32_TILES


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


def split_evenly(wanted_programs: int, tiles: int, most: int) -> int:
    """Ways to share the work of each tile so that about the wanted number of programs run."""
    return max(1, min(_ceil_div(wanted_programs, tiles), most, MAX_SPLITS))


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
