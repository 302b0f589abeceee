"""Allocations with a band of sentinels on both sides, to catch writes that miss their tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

# More than a tile of 128 ids of 64 numbers, so that a missing mask does not break the heap.
BAND = 1 << 14
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
    """What allocates gives guarded memory, full of NaN unless of zeros; yields the check.

    That is torch.empty, empty_like, zeros, zeros_like, and new_empty and new_zeros of tensors.
    """
    checks: list[tuple[str, Callable[[], bool]]] = []

    def allocate(size: Sequence[Any], dtype: torch.dtype, *, zeros: bool) -> Tensor:
        shape = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
        unwritten = math.nan if dtype.is_floating_point else torch.iinfo(dtype).max
        filled = torch.full(tuple(shape), 0 if zeros else unwritten, dtype=dtype)
        inside, untouched = in_guarded_memory(filled)
        checks.append((f"{list(shape)} {dtype}", untouched))
        return inside

    def of_sizes(*, zeros: bool) -> Callable[..., Tensor]:
        def make(*size: Any, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
            return allocate(size, dtype or torch.get_default_dtype(), zeros=zeros)

        return make

    def like(*, zeros: bool) -> Callable[..., Tensor]:
        def make(tensor: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
            return allocate(tensor.shape, dtype or tensor.dtype, zeros=zeros)

        return make

    def new(*, zeros: bool) -> Callable[..., Tensor]:
        def make(
            tensor: Tensor, *size: Any, dtype: torch.dtype | None = None, device: Any = None
        ) -> Tensor:
            return allocate(size, dtype or tensor.dtype, zeros=zeros)

        return make

    def check() -> None:
        assert checks, "nothing was allocated"
        touched = [name for name, untouched in checks if not untouched()]
        assert not touched, f"memory next to these allocations was written: {touched}"

    with pytest.MonkeyPatch.context() as patch:
        for name, zeros in (("empty", False), ("zeros", True)):
            patch.setattr(torch, name, of_sizes(zeros=zeros))
            patch.setattr(torch, f"{name}_like", like(zeros=zeros))
            patch.setattr(Tensor, f"new_{name}", new(zeros=zeros))
        yield check
