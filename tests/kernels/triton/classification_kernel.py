"""How pairs of tiles are classified, by a kernel that writes it down; imported by conftest.py."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqmlm_kernels import Visibility
from seqmlm_kernels.triton.tiles import TileTable, classify_tiles


@triton.jit
def classify_all_kernel(
    queries_ptr,
    keys_ptr,
    classes_ptr,
    capacity,
    window,
    COUNT: tl.constexpr,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    """Write 0 (skip), 1 (partial) or 2 (full) for one tile of queries and COUNT of keys."""
    keys = tl.arange(0, COUNT)
    some, full = classify_tiles(
        queries_ptr + tl.program_id(0),
        capacity,
        keys_ptr + keys,
        capacity,
        window,
        keys < COUNT,
        HAS_VISIBILITY=HAS_VISIBILITY,
        HAS_WINDOW=HAS_WINDOW,
    )
    classes = some.to(tl.int32) + full.to(tl.int32)
    tl.store(classes_ptr + tl.program_id(0) * COUNT + keys, classes)


def classes_of(
    length: int, size: int, visibility: Visibility | None, positions: Tensor, window: int | None
) -> Tensor:
    """[tiles, tiles] of 0, 1, 2 for one sequence of a power of two of whole tiles."""
    table = TileTable(torch.tensor([0, length]), length)
    summary = table.summary(size, visibility, None if window is None else positions)
    count = length // size
    classes = torch.zeros(count, count, dtype=torch.int32)
    classify_all_kernel[(count,)](
        summary,
        summary,
        classes,
        summary.shape[1],
        window or 0,
        COUNT=count,
        HAS_VISIBILITY=visibility is not None,
        HAS_WINDOW=window is not None,
    )
    return classes
