"""Which tiles meet, as the kernels of attention read it."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmlm_kernels import Visibility
from seqmlm_kernels.triton.tile_kernels import CHUNK, VISIT_LENGTH
from seqmlm_kernels.triton.tiles import TileTable
from seqmlm_kernels.triton.waves import ceil_div


def decoded(row: Tensor, tiles: int) -> Tensor:
    """[tiles] of 0 (skipped), 1 (partial) or 2 (full): what one row of visits says."""
    classes = torch.zeros(tiles, dtype=torch.int64)
    visits = row.view(-1, VISIT_LENGTH.value).tolist()
    for chunk, counts, *bits in visits[1 : visits[0][0] + 1]:
        for value, count, word in zip((2, 1), (counts & 255, counts >> 8), bits, strict=True):
            met = [chunk + bit for bit in range(CHUNK.value) if word >> bit & 1]
            assert len(met) == count
            assert (classes[met] == 0).all()
            classes[met] = value
    return classes


def classes_of(
    length: int,
    size: int,
    visibility: Visibility | None,
    positions: Tensor,
    window: int | None,
    *,
    inner: int | None = None,
    outer_is_queries: bool = True,
) -> Tensor:
    """[tiles, inner tiles] of 0, 1 or 2 for one sequence."""
    table = TileTable(torch.tensor([0, length]), length)
    visits = table.visits(
        size,
        inner or size,
        visibility,
        None if window is None else positions.int(),
        window=window,
        max_seqlen=length,
        outer_is_queries=outer_is_queries,
    )
    used = [visit for tile, visit in zip(table.tile_list(size), visits, strict=True)
            if tile[0] < tile[1]]  # fmt: skip
    tiles = ceil_div(length, inner or size)
    # Of a list the last tile comes first.
    return torch.stack([decoded(visit, tiles) for visit in used[::-1]])
