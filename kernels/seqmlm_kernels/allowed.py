"""Which ids a prediction may take: bitsets over the vocabulary, or one range of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class AllowedSets:
    """Bitsets over the vocabulary, and which of them each prediction uses.

    Args:
        words: [R, ceil(V / 32)] int32; id i is bit ``i % 32`` of word ``i // 32``, so that the
            sign bit is id 31 of its word. Bits past the vocabulary are not read.
        index: [M] integer into R, or None when every prediction uses the only set.
    """

    words: Tensor
    index: Tensor | None

    def unpack(self, vocabulary_size: int) -> Tensor:
        """Membership of every id in every set: [R, V] bool."""
        # Bytes, not words: a quarter of the memory to move (measured: 6 times as fast). The low
        # byte of a word comes first because the machine is little-endian, as x86, ARM and GPUs are.
        shifts = torch.arange(8, dtype=torch.uint8, device=self.words.device)
        bits = (self.words.contiguous().view(torch.uint8).unsqueeze(-1) >> shifts) & 1
        return bits.flatten(1)[:, :vocabulary_size].bool()

    def per_prediction(self, of_sets: Tensor) -> Tensor:
        """Spread [R, ...] over the predictions: [M, ...], or [1, ...] when all share one set."""
        return of_sets if self.index is None else of_sets.index_select(0, self.index)

    def contain(self, ids: Tensor) -> Tensor:
        """Whether each id is in the set of its prediction: [M] integer to [M] bool."""
        ids = ids.long()
        words = self.per_prediction(self.words).expand(len(ids), -1)
        word = words.gather(1, (ids // 32).unsqueeze(1)).squeeze(1)
        return ((word >> (ids % 32)) & 1).bool()


@dataclass(frozen=True)
class AllowedRange:
    """Ids from ``first`` up to ``stop``, without it, that every prediction may take.

    A projection onto them is one onto a slice of the weight: nothing else of it is read, and no
    kernel needs to know.
    """

    first: int
    stop: int

    def columns(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Weight [stop - first, E] and bias of the ids, as views."""
        chosen = slice(self.first, self.stop)
        return weight[chosen], None if bias is None else bias[chosen]

    def places(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Where ids are within the range, 0 for those outside, and which are inside."""
        inside = (ids >= self.first) & (ids < self.stop)
        return torch.where(inside, ids - self.first, 0), inside


def range_or_sets(
    allowed: Tensor | tuple[int, int] | None, allowed_index: Tensor | None, weight: Tensor
) -> tuple[AllowedRange | None, Tensor | None]:
    """The range of ids that all predictions may take, or bitsets not yet checked, or raise.

    A range without ids is the empty set, of which backends know that it has no loss.
    """
    if not isinstance(allowed, tuple):
        return None, allowed
    found = _checked_range(allowed, allowed_index, size=len(weight))
    if found.first < found.stop:
        return found, None
    num_words = -(-len(weight) // 32)
    return None, torch.zeros(1, num_words, dtype=torch.int32, device=weight.device)


def _checked_range(
    allowed: tuple[int, int], allowed_index: Tensor | None, *, size: int
) -> AllowedRange:
    if len(allowed) != 2 or not all(_is_integer(end) for end in allowed):
        raise TypeError(f"allowed is {allowed!r}; a range of ids is two integers, (first, stop).")
    first, stop = allowed
    if not 0 <= first <= stop <= size:
        raise ValueError(
            f"allowed is ({first}, {stop}); a range of ids must have 0 <= first <= stop <= {size}, "
            "the size of the vocabulary."
        )
    if allowed_index is not None:
        raise ValueError(
            "allowed_index was given with a range of ids, which all predictions share; pass "
            "bitsets as allowed for one set per prediction."
        )
    return AllowedRange(first, stop)


def _is_integer(end: object) -> bool:
    return isinstance(end, (int, torch.SymInt)) and not isinstance(end, bool)
