"""Allocations with a band of sentinels on both sides, to catch writes that miss their tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

BAND = 64
SENTINELS = {True: -12345.0, False: -123}


def in_guarded_memory(tensor: Tensor) -> tuple[Tensor, Callable[[], bool]]:
    """A copy of ``tensor`` between two bands, and a test that the bands are as they were."""
    sentinel = SENTINELS[tensor.dtype.is_floating_point]
    memory = torch.full((tensor.numel() + 2 * BAND,), sentinel, dtype=tensor.dtype)
    inside = memory[BAND : BAND + tensor.numel()].view(tensor.shape)
    inside.copy_(tensor)

    def untouched() -> bool:
        bands = torch.cat((memory[:BAND], memory[BAND + tensor.numel() :]))
        return bool((bands == torch.tensor(sentinel, dtype=tensor.dtype)).all())

    return inside, untouched


@contextmanager
def guarded_allocations() -> Iterator[Callable[[], None]]:
    """torch.empty and torch.empty_like give guarded memory full of NaN; yields the check."""
    checks: list[tuple[str, Callable[[], bool]]] = []

    def allocate(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        filler = math.nan if dtype.is_floating_point else torch.iinfo(dtype).max
        inside, untouched = in_guarded_memory(torch.full(tuple(shape), filler, dtype=dtype))
        checks.append((f"{list(shape)} {dtype}", untouched))
        return inside

    def empty(*size: Any, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        shape = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
        return allocate(shape, dtype or torch.get_default_dtype())

    def empty_like(tensor: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        return allocate(tensor.shape, dtype or tensor.dtype)

    def check() -> None:
        assert checks, "nothing was allocated"
        touched = [name for name, untouched in checks if not untouched()]
        assert not touched, f"memory next to these allocations was written: {touched}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", empty)
        patch.setattr(torch, "empty_like", empty_like)
        yield check
