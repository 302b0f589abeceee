"""Tile sizes of the kernels over a vocabulary, by architecture and dtype."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch

from seqmlm_kernels.triton.launch import STAGES, WARPS, InputPrecision, triton_version

# As `projection_plan` describes them; "one_pass" is what it calls one tile, of up to 64 ids.
Regime = Literal["one_pass", "one_tile", "materialised", "recomputed"]
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
class ProjectionTiles:
    """Tiles of every kernel of a projection.

    Args:
        scores: of the forward; its vocabulary tile is the unit that sets of allowed ids switch
            off.
        score_gradient: of the gradient of the scores, which has the same unit.
        hidden_gradient, weight_gradient: of the two products of the backward, whose vocabulary
            tiles divide the unit.
        one_pass: of the backward in one kernel, but for the vocabulary, which one tile holds.

    Raises:
        ValueError: these vocabulary tiles cannot be combined, a size is no power of two, or there
            are no such warps or stages.
    """

    scores: Tiles
    score_gradient: Tiles
    hidden_gradient: Tiles
    weight_gradient: Tiles
    one_pass: Tiles

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        # Of thirty numbers, for the plan of every call.
        return hash(tuple(getattr(self, field.name) for field in fields(self)))

    def __post_init__(self) -> None:
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, tiles in parts.items():
            sizes = [tiles.predictions, tiles.hidden]
            sizes += [tiles.vocabulary] if name != "one_pass" else []
            if any(size < 1 or size & (size - 1) for size in sizes):
                raise ValueError(f"{name} is {tiles}: sizes of tiles are powers of two.")
            if tiles.num_warps not in WARPS or tiles.num_stages not in STAGES:
                raise ValueError(
                    f"{name} is {tiles}: num_warps is among {WARPS}, num_stages among {STAGES}."
                )
        unit = self.scores.vocabulary
        if self.score_gradient.vocabulary != unit:
            raise ValueError(
                f"the vocabulary tile of score_gradient is {self.score_gradient.vocabulary}; it "
                f"must be that of scores, {unit}."
            )
        for name in ("hidden_gradient", "weight_gradient"):
            if unit % parts[name].vocabulary != 0:
                raise ValueError(
                    f"the vocabulary tile of {name} is {parts[name].vocabulary}; it must divide "
                    f"that of scores, {unit}."
                )


@dataclass(frozen=True)
class TilesKey:
    """What measured tiles depend on; sizes of a call are not among it but for their regime.

    Args:
        triton: `triton_version`.
        architecture: as `architecture_of` names it, or "interpreter".
    """

    triton: str
    architecture: str
    dtype: torch.dtype
    input_precision: InputPrecision
    regime: Regime

    @classmethod
    @functools.cache
    def of(
        cls,
        regime: Regime,
        *,
        architecture: str,
        dtype: torch.dtype,
        input_precision: InputPrecision,
    ) -> TilesKey:
        """The key under the Triton that is installed."""
        return cls(triton_version(), architecture, dtype, input_precision, regime)

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        parts = (self.triton, self.architecture, dtype, self.input_precision)
        return "-".join(("triton", *parts, "projection", self.regime))


# A tile of 256 predictions would read 3/4 as much from the level 2 cache for each product of the
# score gradient (a candidate of `projection_tuning`: 186 to 255 registers, none spilt). But one
# program of it fills a multiprocessor, where two of 128 hide each other's softmax unless there are
# sets, and it computes twice the rows for a handful of predictions: time has to tell. The
# statistics spill 144 to 312 bytes at that size.
_HOPPER_SCORES = Tiles(128, 128, 64, 8, 3)
_HOPPER = ProjectionTiles(
    scores=_HOPPER_SCORES,
    score_gradient=_HOPPER_SCORES,
    hidden_gradient=Tiles(128, 64, 128, 8, 3),
    weight_gradient=Tiles(64, 128, 256, 8, 3),
    one_pass=Tiles(64, 0, 128, 8, 3),
)
# By architecture, for elements of 2 bytes. Registers and shared memory of each are held by
# tests/kernels/triton/projection_variants.py.
_TILES: dict[str, ProjectionTiles] = {
    "sm_80": ProjectionTiles(
        scores=Tiles(128, 128, 32, 8, 4),
        score_gradient=Tiles(128, 128, 32, 8, 4),
        hidden_gradient=Tiles(128, 32, 128, 8, 4),
        weight_gradient=Tiles(32, 128, 128, 8, 4, resident=2),
        one_pass=Tiles(32, 0, 128, 8, 3),
    ),
    "sm_90": _HOPPER,
    "sm_100": _HOPPER,
    "gfx942": ProjectionTiles(
        scores=Tiles(128, 128, 64, 8, 2),
        score_gradient=Tiles(128, 128, 64, 8, 2),
        hidden_gradient=Tiles(128, 64, 128, 8, 2),
        weight_gradient=Tiles(64, 128, 128, 8, 2),
        one_pass=Tiles(64, 0, 128, 8, 2),
    ),
    "small_shared_memory": ProjectionTiles(
        scores=Tiles(128, 128, 32, 8, 3),
        score_gradient=Tiles(128, 128, 32, 8, 3),
        hidden_gradient=Tiles(128, 32, 128, 8, 3),
        weight_gradient=Tiles(32, 128, 128, 8, 3),
        one_pass=Tiles(32, 0, 128, 8, 3),
    ),
    "interpreter": ProjectionTiles(
        scores=Tiles(16, 32, 16, 1, 1),
        score_gradient=Tiles(16, 32, 16, 1, 1),
        hidden_gradient=Tiles(16, 16, 32, 1, 1),
        weight_gradient=Tiles(16, 32, 32, 1, 1),
        one_pass=Tiles(16, 0, 32, 1, 1),
    ),
}
_FLOAT32_TILES = ProjectionTiles(
    scores=Tiles(64, 64, 32, 4, 3),
    score_gradient=Tiles(64, 64, 32, 4, 3),
    hidden_gradient=Tiles(64, 32, 64, 4, 3),
    weight_gradient=Tiles(32, 64, 64, 4, 3),
    one_pass=Tiles(16, 0, 32, 4, 1),
)


def tiles_of(architecture: str, dtype: torch.dtype) -> ProjectionTiles:
    """The row of the table.

    Args:
        architecture: as `architecture_of` names it, or "interpreter".
    """
    is_float32 = dtype == torch.float32 and architecture != "interpreter"
    return _FLOAT32_TILES if is_float32 else _TILES[architecture]


def narrowed(tiles: ProjectionTiles, vocabulary: int) -> ProjectionTiles:
    """Tiles as wide as the vocabulary; fewer predictions each, so that more programs share them."""
    width = max(WORD_BITS, 1 << (vocabulary - 1).bit_length())
    weight = tiles.weight_gradient
    return replace(
        tiles,
        scores=_whole_vocabulary(tiles.scores, width),
        score_gradient=_whole_vocabulary(tiles.score_gradient, width),
        hidden_gradient=replace(
            tiles.hidden_gradient, vocabulary=min(width, tiles.hidden_gradient.vocabulary)
        ),
        weight_gradient=replace(
            weight,
            vocabulary=min(width, weight.vocabulary),
            hidden=min(weight.hidden, 128),
            num_warps=min(weight.num_warps, 4),
        ),
        one_pass=replace(tiles.one_pass, vocabulary=width),
    )


def _whole_vocabulary(tiles: Tiles, width: int) -> Tiles:
    warps = tiles.num_warps if width > 128 else min(tiles.num_warps, 4)
    rows = min(tiles.predictions, 64)
    return replace(tiles, predictions=rows, vocabulary=width, num_warps=warps)
