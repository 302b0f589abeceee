"""Which tiles of queries and keys meet: built once per batch in O(T), read by every kernel.

A tile is a run of at most ``size`` tokens of one sequence. Two tables describe them:

* The tile list is the grid of a kernel: one row per tile, tiles of the longest sequence first, so
  that no long sequence starts when all others are done. Two pseudo-sequences, of the tokens before
  ``cu_seqlens[0]`` and past ``cu_seqlens[-1]``, see no key and are seen by none: their outputs and
  gradients are written, as zeros. The number of rows is an upper bound, known without reading
  ``cu_seqlens``; rows past the last tile are empty. There may be a list for short sequences and
  one for the others, whose tiles have another size.
* The summary has the lowest and the highest step, reach, group and position of each tile. From
  two of its columns a kernel knows whether two tiles see nothing of each other, everything, or
  something in between, the only case in which it evaluates the rule pair by pair.
"""

# T tokens, B sequences

from __future__ import annotations

import copy
from typing import Literal

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from seqmlm_kernels.attention_layout import is_capturing, prepared_for
from seqmlm_kernels.visibility import Visibility

SIZES = (16, 32, 64, 128)
ROW_LENGTH = tl.constexpr(4 + len(SIZES))
# Which sequences are in a tile list: all, those of at most SHORT tokens, or the longer ones.
Lengths = Literal["any", "short", "long"]
SHORT = 64
# A summary is [NUM_EXTREMES, tiles], in this order: step of content keys, reach, group of pseudo
# tokens, position; the minimum before the maximum.
NUM_EXTREMES = 8
# How many tiles a kernel classifies at a time, one bit of an int64 each.
CHUNK = tl.constexpr(32)
LARGEST = tl.constexpr(2**31 - 1)
SMALLEST = tl.constexpr(-(2**31))


class TileTable:
    """Tile lists and summaries of one batch, each made when it is first asked for.

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
        self._positions: Tensor | None = None

    def copy(self) -> TileTable:
        """One that has what this one has made, and keeps to itself what it makes from now on."""
        other = copy.copy(self)
        other._lists, other._summaries = dict(self._lists), dict(self._summaries)
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


@triton.jit(do_not_specialize=["capacity"])
def summarise_tiles_kernel(
    tiles_ptr,
    step_ptr,
    reach_ptr,
    group_ptr,
    position_ptr,
    summary_ptr,
    capacity,
    SIZE: tl.constexpr,
    COLUMN: tl.constexpr,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    """Extremes of one tile."""
    row_ptr = tiles_ptr + tl.program_id(0) * ROW_LENGTH
    start = tl.load(row_ptr)
    stop = tl.load(row_ptr + 1)
    sequence_start = tl.load(row_ptr + 2)
    sequence_stop = tl.load(row_ptr + 3)
    if (start >= stop) | (sequence_start >= sequence_stop):
        return
    index = tl.load(row_ptr + COLUMN) + (start - sequence_start) // SIZE
    summary_ptr += index
    tokens = start + tl.arange(0, SIZE)
    inside = tokens < stop
    if HAS_VISIBILITY:
        group = tl.load(group_ptr + tokens, mask=inside, other=-1)
        pseudo = inside & (group >= 0)
        content = inside & (group < 0)
        step = tl.load(step_ptr + tokens, mask=inside, other=0)
        reach = tl.load(reach_ptr + tokens, mask=inside, other=0)
        tl.store(summary_ptr, tl.min(tl.where(content, step, LARGEST), 0))
        tl.store(summary_ptr + capacity, tl.max(tl.where(content, step, SMALLEST), 0))
        tl.store(summary_ptr + 2 * capacity, tl.min(tl.where(inside, reach, LARGEST), 0))
        tl.store(summary_ptr + 3 * capacity, tl.max(tl.where(inside, reach, SMALLEST), 0))
        tl.store(summary_ptr + 4 * capacity, tl.min(tl.where(pseudo, group, LARGEST), 0))
        tl.store(summary_ptr + 5 * capacity, tl.max(tl.where(pseudo, group, -1), 0))
    if HAS_WINDOW:
        position = tl.load(position_ptr + tokens, mask=inside, other=0)
        tl.store(summary_ptr + 6 * capacity, tl.min(tl.where(inside, position, LARGEST), 0))
        tl.store(summary_ptr + 7 * capacity, tl.max(tl.where(inside, position, SMALLEST), 0))


@triton.jit
def classify_tiles(
    queries_ptr,
    queries_capacity,
    keys_ptr,
    keys_capacity,
    window,
    exists,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    """(some pair is visible, all are) for columns of two summaries, one of them a block of them.

    The first may be true where no pair is, the second is true only where all are.
    """
    some = exists
    full = exists
    if HAS_VISIBILITY:
        step_min = tl.load(keys_ptr)
        step_max = tl.load(keys_ptr + keys_capacity)
        reach_min = tl.load(queries_ptr + 2 * queries_capacity)
        reach_max = tl.load(queries_ptr + 3 * queries_capacity)
        key_group_min = tl.load(keys_ptr + 4 * keys_capacity)
        key_group_max = tl.load(keys_ptr + 5 * keys_capacity)
        group_min = tl.load(queries_ptr + 4 * queries_capacity)
        group_max = tl.load(queries_ptr + 5 * queries_capacity)
        groups_meet = (key_group_min <= group_max) & (group_min <= key_group_max)
        some = some & ((step_min <= reach_max) | groups_meet)
        full = full & (key_group_max < 0) & (step_max <= reach_min)
    if HAS_WINDOW:
        key_min = tl.load(keys_ptr + 6 * keys_capacity)
        key_max = tl.load(keys_ptr + 7 * keys_capacity)
        query_min = tl.load(queries_ptr + 6 * queries_capacity)
        query_max = tl.load(queries_ptr + 7 * queries_capacity)
        some = some & (key_min - query_max <= window) & (query_min - key_max <= window)
        full = full & (query_max - key_min <= window) & (key_max - query_min <= window)
    return some, full


@triton.jit
def as_bits(chosen):
    """CHUNK booleans as the bits of an int64."""
    return tl.sum(chosen.to(tl.int64) << tl.arange(0, CHUNK).to(tl.int64), 0)


@triton.jit
def index_of_lowest_bit(bits):
    """Index of the lowest bit that is set, by the exponent of its value as a float."""
    lowest = bits & (-bits)
    return (lowest.to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127


@triton.jit
def pairs_are_visible(
    reach,
    query_group,
    query_position,
    step,
    key_group,
    key_position,
    window,
    HAS_VISIBILITY: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    """The rule of `seqmlm_kernels.visibility` for operands that broadcast to pairs."""
    if HAS_VISIBILITY:
        visible = tl.where(key_group < 0, step <= reach, key_group == query_group)
        if HAS_WINDOW:
            visible = visible & (tl.abs(query_position - key_position) <= window)
    else:
        visible = tl.abs(query_position - key_position) <= window
    return visible


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
