"""Which tiles of the vocabulary hold an allowed id at all; the others are skipped."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

WORD_BITS = 32


@dataclass(frozen=True, eq=False)
class ActiveTiles:
    """Tiles with an id that any set allows, found without making the host wait.

    Args:
        order: [n] int32, the active tiles in ascending order, then the others.
        before: [n + 1] int32, number of active tiles before each tile; the last is their count.
    """

    order: Tensor
    before: Tensor


def find_active_tiles(words: Tensor, vocabulary_size: int, tile: int) -> ActiveTiles:
    """Active tiles of ``tile`` ids, a multiple of 32, in sets of [R, ceil(V / 32)] words."""
    num_tiles = -(-vocabulary_size // tile)
    words_per_tile = tile // WORD_BITS
    used = (words != 0).any(0)
    used = torch.nn.functional.pad(used, (0, num_tiles * words_per_tile - len(used)))
    active = used.view(num_tiles, words_per_tile).any(1)
    before = torch.nn.functional.pad(active.cumsum(0), (1, 0)).to(torch.int32)
    return ActiveTiles(active.logical_not().argsort(stable=True).to(torch.int32), before)
