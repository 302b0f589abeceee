"""A kernel that writes down how pairs of tiles are classified; conftest.py imports it first."""

from __future__ import annotations

import triton
import triton.language as tl

from seqmlm_kernels.triton.tiles import classify_tiles


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
