"""Which tiles of queries and keys meet: built once per batch, read by every kernel.

A tile is a run of at most ``size`` tokens of one sequence. Three tables describe them:

* The tile list is the grid of a kernel: one row per tile, tiles of the longest sequence first, so
  that no long sequence starts when all others are done. Two pseudo-sequences, of the tokens before
  ``cu_seqlens[0]`` and past ``cu_seqlens[-1]``, see no key and are seen by none: their outputs and
  gradients are written, as zeros. The number of rows is an upper bound, known without reading
  ``cu_seqlens``; rows past the last tile are empty. There may be a list for short sequences and
  one for the others, whose tiles have another size.
* The summary has the lowest and the highest step, reach, group and position of each tile. Two of
  its columns say whether two tiles see nothing of each other, everything, or something in between,
  the only case in which a kernel evaluates the rule pair by pair.
* The visits of a tile are the tiles of the other side that it meets, 32 neighbours at a time. All
  heads of all layers read them, forward and backward, and look at no other tile.
"""

# T tokens, B sequences

from __future__ import annotations

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from seqmlm_kernels.attention_layout import is_capturing, prepared_for
from seqmlm_kernels.triton.tile_kernels import (
    CHUNK,
    NUM_EXTREMES,
    SIZES,
    VISIT_LENGTH,
    find_visits_kernel,
    summarise_tiles_kernel,
)
from seqmlm_kernels.triton.waves import ceil_div
from seqmlm_kernels.visibility import Visibility

# Which sequences are in a tile list: all, those of at most SHORT tokens, or the longer ones.
Lengths = Literal["any", "short", "long"]
SHORT = 64


class TileTable:
    """Tile lists, summaries and visits of one batch, each made when it is first asked for.

    Values that no batch has stop the device with an assertion, which costs no synchronisation.

    Holds nothing but what it made, so that it may live as long as the ``cu_seqlens`` of its layout.
    """

    def __init__(self, cu_seqlens: Tensor, tokens: int) -> None:
        self.tokens = tokens
        self.num_sequences = len(cu_seqlens) + 1  # with the first and last, which are none
        # On a GPU nobody has read the values, and they become addresses: whatever they are, each
        # token gets one owner.
        ordered = cu_seqlens.clamp(0, tokens).cummax(0).values
        torch._assert_async(
            (ordered == cu_seqlens).all(),
            "cu_seqlens of attention must not fall, nor leave the range from 0 to the tokens of q",
        )
        self.boundaries = F.pad(F.pad(ordered.long(), (1, 0)), (0, 1), value=tokens)
        lengths = self.boundaries.diff()
        # Not by a tensor of the sizes: copying one to a GPU makes the host wait.
        self.counts = torch.stack([(lengths + (size - 1)) // size for size in SIZES])
        self.is_short = lengths <= SHORT
        self.firsts = self.counts.cumsum(1) - self.counts
        self.longest_first = lengths.argsort(descending=True, stable=True)
        self._lists: dict[tuple[int, Lengths], Tensor] = {}
        self._summaries: dict[tuple[int, Lengths, bool], Tensor] = {}
        self._visits: dict[tuple[int, int, Lengths, bool, int | None, int], Tensor] = {}
        self._positions: Tensor | None = None
        # Each max_seqlen that has been compared with the lengths.
        self._no_shorter: set[int] = set()

    def copy(self) -> TileTable:
        """One that has what this one has made, and keeps to itself what it makes from now on."""
        other = copy.copy(self)
        other._lists, other._summaries = dict(self._lists), dict(self._summaries)
        other._visits, other._no_shorter = dict(self._visits), set(self._no_shorter)
        return other

    def capacity(self, size: int, lengths: Lengths = "any") -> int:
        """Upper bound of the number of tiles, without knowing where sequences end."""
        most_sequences = self.num_sequences
        if lengths == "long":
            most_sequences = min(most_sequences, self.tokens // SHORT)
        return self.tokens // size + most_sequences

    def tile_list(self, size: int, lengths: Lengths = "any") -> Tensor:
        """Rows of (first token, last + 1, of the sequence first, last + 1, *first tiles).

        Returns:
            [capacity(size, lengths), 4 + len(SIZES)] int32. The last columns hold the index in a
            summary of the sequence's first tile, for each of SIZES. First tokens of unused rows
            are equal to their last + 1.
        """
        name = (size, lengths)
        if name not in self._lists:
            self._lists[name] = self._make_list(size, lengths)
        return self._lists[name]

    def positions(self, given: Tensor | None) -> Tensor:
        """Positions as [T] int32; the index within the sequence where none are given."""
        if self._positions is None:
            if given is None:
                token = torch.arange(self.tokens, device=self.boundaries.device)
                given = token - self.boundaries[self._sequence_of(token)]
            elif self.tokens > 0:
                _assert_differences_fit(given)
            self._positions = given.int().contiguous()
        return self._positions

    def summary(
        self,
        size: int,
        visibility: Visibility | None,
        positions: Tensor | None,
        lengths: Lengths = "any",
    ) -> Tensor:
        """Extremes of each tile, [NUM_EXTREMES, capacity(size)] int32; see NUM_EXTREMES.

        Args:
            size: one of SIZES.
            lengths: of which sequences; columns of tiles of the others hold nothing.
            visibility: as in the call that the table was made for.
            positions: [T] int32, what `positions` returns, if there is a window.
        """
        name = (size, lengths, positions is not None)
        if name not in self._summaries:
            tiles = self.tile_list(size, lengths)
            capacity = self.capacity(size)
            summary = torch.empty((NUM_EXTREMES, capacity), dtype=torch.int32, device=tiles.device)
            unused = tiles
            step, reach, group = (unused,) * 3 if visibility is None else (
                visibility.step.contiguous(),
                visibility.reach.contiguous(),
                visibility.group.contiguous(),
            )  # fmt: skip
            summarise_tiles_kernel[(len(tiles),)](
                tiles,
                step,
                reach,
                group,
                unused if positions is None else positions,
                summary,
                capacity,
                SIZE=size,
                COLUMN=4 + SIZES.index(size),
                HAS_VISIBILITY=visibility is not None,
                HAS_WINDOW=positions is not None,
                num_warps=1,
            )
            self._summaries[name] = summary
        return self._summaries[name]

    def visits(
        self,
        outer: int,
        inner: int,
        visibility: Visibility | None,
        positions: Tensor | None,
        *,
        window: int | None,
        max_seqlen: int,
        outer_is_queries: bool,
        lengths: Lengths = "any",
    ) -> Tensor:
        """The tiles of ``inner`` tokens that each row of the list of ``outer`` tokens meets.

        A row is the number of its visits, and three numbers that are unused; then, for each visit,
        the first of CHUNK tiles, counts (of those wholly visible + 256 x of those partly), and
        both sets as bits. It is as long as the longest sequence needs: 4 + max_seqlen / (8 x
        inner) numbers, for each tile and some more for each sequence.

        Args:
            visibility, positions: as for `summary`.
            window: within the range of int32, or None.
            max_seqlen: a longer sequence stops the device.
            outer_is_queries: whether rows are of queries that meet keys, or of keys.
        """
        longest = min(max_seqlen, self.tokens, SHORT if lengths == "short" else self.tokens)
        most_visits = ceil_div(ceil_div(longest, inner), CHUNK.value)
        name = (outer, inner, lengths, outer_is_queries, window, most_visits)
        if name not in self._visits:
            self._assert_none_is_longer(max_seqlen)
            tiles = self.tile_list(outer, lengths)
            visits = torch.empty(
                (len(tiles), (1 + most_visits) * VISIT_LENGTH.value),
                dtype=torch.int32,
                device=tiles.device,
            )
            find_visits_kernel[(len(tiles),)](
                tiles,
                self.summary(outer, visibility, positions, lengths),
                self.summary(inner, visibility, positions, lengths),
                visits,
                self.capacity(outer),
                self.capacity(inner),
                0 if window is None else window,
                most_visits,
                outer,
                inner,
                4 + SIZES.index(outer),
                4 + SIZES.index(inner),
                OUTER_IS_QUERIES=outer_is_queries,
                HAS_VISIBILITY=visibility is not None,
                HAS_WINDOW=window is not None,
                num_warps=1,
            )
            self._visits[name] = visits
        return self._visits[name]

    def _assert_none_is_longer(self, max_seqlen: int) -> None:
        if max_seqlen not in self._no_shorter:
            torch._assert_async(
                (self.boundaries[1:-1].diff() <= max_seqlen).all(),
                "sequences of attention must not be longer than max_seqlen",
            )
            self._no_shorter.add(max_seqlen)

    def _sequence_of(self, token: Tensor) -> Tensor:
        # Of equal boundaries the last one starts the sequence that is not empty.
        return torch.searchsorted(self.boundaries, token, right=True) - 1

    def _make_list(self, size: int, lengths: Lengths) -> Tensor:
        counts = self.counts[SIZES.index(size)]
        if lengths != "any":
            counts = counts * (self.is_short if lengths == "short" else ~self.is_short)
        ends = counts[self.longest_first].cumsum(0)
        tile = torch.arange(self.capacity(size, lengths), device=ends.device)
        rank = torch.searchsorted(ends, tile, right=True).clamp(max=self.num_sequences - 1)
        # The last tile of a sequence first: under a causal rule it has the most keys.
        block = ends[rank] - 1 - tile
        sequence = self.longest_first[rank]
        start, stop = self.boundaries[sequence], self.boundaries[sequence + 1]
        first = torch.where(block >= 0, start + block * size, 0)
        last = torch.where(block >= 0, (first + size).minimum(stop), 0)
        # The tokens outside of all sequences have no keys.
        outside = (sequence == 0) | (sequence == self.num_sequences - 1)
        start = torch.where(outside, stop, start)
        columns = torch.stack((first, last, start, stop))
        return torch.cat((columns, self.firsts[:, sequence])).T.int().contiguous()


def _assert_differences_fit(positions: Tensor) -> None:
    """Kernels subtract in int32: in 64 bits they would need twice the registers for it."""
    lowest, highest = positions.long().aminmax()
    limits = torch.iinfo(torch.int32)
    fits = (lowest >= limits.min) & (highest <= limits.max) & (highest - lowest <= limits.max)
    torch._assert_async(
        fits, "positions of attention must fit in int32 and lie less than 2**31 apart"
    )


def tile_table(
    cu_seqlens: Tensor, visibility: Visibility | None, positions: Tensor | None, *, tokens: int
) -> TileTable:
    """The table of a batch, made once for the tensors of one `attention_layout`.

    All layers of an encoder, forward and backward, so share one. Other tensors, which may change
    between two calls, get a table in each. What is made while a CUDA graph is captured holds
    nothing before it is replayed, so that calls outside of captures do not share it.
    """
    fields = () if visibility is None else (visibility.step, visibility.reach, visibility.group)
    prepared = prepared_for(cu_seqlens, (positions, *fields))
    capturing = is_capturing(cu_seqlens.device)
    if prepared is None or (prepared.in_capture and not capturing):
        return TileTable(cu_seqlens, tokens)
    if capturing and not prepared.in_capture:
        made: TileTable | None = prepared.found.get(tokens)
        return TileTable(cu_seqlens, tokens) if made is None else made.copy()
    if tokens not in prepared.found:
        prepared.found[tokens] = TileTable(cu_seqlens, tokens)
    table: TileTable = prepared.found[tokens]
    return table
