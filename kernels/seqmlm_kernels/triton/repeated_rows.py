"""Hidden states may be predicted from several times: their gradients are added in order.

Atomic additions would make the sum depend on the timing of programs. Instead the predictions are
put in the order of their rows, and the first of each row adds up those that follow it there:
rows of few predictions side by side, the rest of a row of many a tile of predictions at a time.
Of n predictions of one row, n / `LONG_BLOCK` loads wait for each other, all in one launch.
"""

# T tokens, M predictions, E hidden size

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqmlm_kernels.triton.waves import ceil_div, next_power_of_2

# Up to here each prediction is compared with each other, unless rows rise, all in one launch; from
# here on the rows are sorted.
COMPARED_PREDICTIONS = 16384
LINKED_PREDICTIONS = 32
COMPARED_BLOCK = 128
# Rows that are compared with the next one at a time.
RISING_BLOCK = 2048
SUMMED_PREDICTIONS = 32
HIDDEN_BLOCK = 64
# Predictions of a row that are added one after the other, while other rows do the same.
SEGMENT = 32
# Further predictions of one row that are read at a time.
LONG_BLOCK = 64

ALONE = tl.constexpr(-1)


@dataclass(frozen=True, eq=False)
class RowChains:
    """Predictions of the same row, in ascending order.

    Args:
        order: [M] int32, predictions sorted by their rows; those of a row stay in their order.
        position: [M] int32, where each prediction is in ``order``.
        rank: [M] int32, how many predictions of the same row are before it; where there are none,
            minus the number of all of them, which is `ALONE` where the row has no other.
    """

    order: Tensor
    position: Tensor
    rank: Tensor


@triton.jit(do_not_specialize=("num_predictions",))
def link_kernel(
    rows_ptr,
    order_ptr,
    position_ptr,
    rank_ptr,
    num_predictions,
    BLOCK_M: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Compare the rows of a block of predictions with those of all others.

    Rows that only rise, as those of a batch do, are read once: they are in order, each alone.
    """
    predictions = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = predictions < num_predictions
    rows = tl.load(rows_ptr + predictions, mask=inside, other=-1)
    does_not_rise = tl.zeros((WIDTH,), dtype=tl.int32)
    for start in range(0, num_predictions - 1, WIDTH):
        places = start + tl.arange(0, WIDTH)
        is_pair = places < num_predictions - 1
        left = tl.load(rows_ptr + places, mask=is_pair, other=0)
        right = tl.load(rows_ptr + places + 1, mask=is_pair, other=1)
        does_not_rise |= (left >= right).to(tl.int32)
    position = predictions
    rank = tl.zeros((BLOCK_M,), dtype=tl.int32)
    length = tl.zeros((BLOCK_M,), dtype=tl.int32) + 1
    if tl.max(does_not_rise, axis=0) > 0:
        position = tl.zeros((BLOCK_M,), dtype=tl.int32)
        length = tl.zeros((BLOCK_M,), dtype=tl.int32)
        for start in range(0, num_predictions, BLOCK):
            others = start + tl.arange(0, BLOCK)
            is_other = (others < num_predictions)[None, :]
            other_rows = tl.load(rows_ptr + others, mask=others < num_predictions, other=0)
            is_same = (rows[:, None] == other_rows[None, :]) & is_other
            is_earlier = is_same & (others[None, :] < predictions[:, None])
            is_lower = (rows[:, None] > other_rows[None, :]) & is_other
            position += tl.sum((is_lower | is_earlier).to(tl.int32), axis=1)
            rank += tl.sum(is_earlier.to(tl.int32), axis=1)
            length += tl.sum(is_same.to(tl.int32), axis=1)
    tl.store(order_ptr + position, predictions, mask=inside)
    tl.store(position_ptr + predictions, position, mask=inside)
    tl.store(rank_ptr + predictions, tl.where(rank == 0, -length, rank), mask=inside)


@triton.jit(do_not_specialize=("num_predictions", "num_tokens"))
def sum_chains_kernel(
    gradient_ptr,
    rows_ptr,
    order_ptr,
    position_ptr,
    rank_ptr,
    output_ptr,
    num_predictions,
    num_tokens,
    hidden_size,
    SEGMENT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_E: tl.constexpr,
    ONLY_REPEATED: tl.constexpr,
):
    """Add the gradients of all predictions of a row where the first of them is."""
    lanes = tl.arange(0, BLOCK_M)
    predictions = tl.program_id(0) * BLOCK_M + lanes
    ranks = tl.load(rank_ptr + predictions, mask=predictions < num_predictions, other=0)
    is_first = (ranks < ALONE) if ONLY_REPEATED else (ranks <= ALONE)
    lengths = tl.where(is_first, -ranks, 0)
    longest = tl.max(lengths, axis=0)
    if longest > 0:
        units = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)
        is_unit = (units < hidden_size)[None, :]
        order_ptrs = order_ptr + tl.load(position_ptr + predictions, mask=is_first, other=0)
        total = tl.zeros((BLOCK_M, BLOCK_E), dtype=tl.float32)
        for link in range(0, tl.minimum(longest, SEGMENT)):
            is_link = link < lengths
            members = tl.load(order_ptrs + link, mask=is_link, other=0).to(tl.int64)
            pointers = gradient_ptr + members[:, None] * hidden_size + units[None, :]
            total += tl.load(pointers, mask=is_link[:, None] & is_unit, other=0.0)
        if longest > SEGMENT:
            for lane in range(0, BLOCK_M):
                is_lane = lanes == lane
                length = tl.max(tl.where(is_lane, lengths, 0), axis=0)
                if length > SEGMENT:
                    first = tl.max(tl.where(is_lane, predictions, 0), axis=0)
                    place = tl.load(position_ptr + first)
                    rest = tl.zeros((WIDTH, BLOCK_E), dtype=tl.float32)
                    for start in range(SEGMENT, length, WIDTH):
                        links = start + tl.arange(0, WIDTH)
                        is_link = links < length
                        members = tl.load(order_ptr + place + links, mask=is_link, other=0)
                        pointers = gradient_ptr + members.to(tl.int64)[:, None] * hidden_size
                        pointers += units[None, :]
                        rest += tl.load(pointers, mask=is_link[:, None] & is_unit, other=0.0)
                    total += tl.where(is_lane[:, None], tl.sum(rest, axis=0)[None, :], 0.0)
        rows = tl.load(rows_ptr + predictions, mask=is_first, other=-1).to(tl.int64)
        is_row = (rows >= 0) & (rows < num_tokens)
        pointers = output_ptr + rows[:, None] * hidden_size + units[None, :]
        tl.store(pointers, total, mask=is_row[:, None] & is_unit)


def link_rows(rows: Tensor) -> RowChains:
    """Chains of [M] rows; M at least 1."""
    if len(rows) > COMPARED_PREDICTIONS:
        return link_by_sorting(rows)
    order = torch.empty(len(rows), dtype=torch.int32, device=rows.device)
    position, rank = torch.empty_like(order), torch.empty_like(order)
    link_kernel[(ceil_div(len(rows), LINKED_PREDICTIONS),)](
        rows,
        order,
        position,
        rank,
        len(rows),
        BLOCK_M=LINKED_PREDICTIONS,
        BLOCK=COMPARED_BLOCK,
        WIDTH=RISING_BLOCK,
        num_warps=4,
    )
    return RowChains(order, position, rank)


def sum_chains(
    gradient: Tensor, rows: Tensor, chains: RowChains, output: Tensor, *, only_repeated: bool
) -> None:
    """Write the sum over the predictions of each row to the rows of ``output``.

    Args:
        gradient: [M, E] of the predictions, in fp32.
        output: [T, E]; rows without predictions stay as they are.
        only_repeated: leave out rows that one prediction alone has.
    """
    num_predictions, hidden_size = gradient.shape
    block = min(HIDDEN_BLOCK, next_power_of_2(hidden_size))
    grid = ceil_div(num_predictions, SUMMED_PREDICTIONS), ceil_div(hidden_size, block)
    sum_chains_kernel[grid](
        gradient,
        rows,
        chains.order,
        chains.position,
        chains.rank,
        output,
        num_predictions,
        len(output),
        hidden_size,
        SEGMENT=SEGMENT,
        BLOCK_M=SUMMED_PREDICTIONS,
        WIDTH=LONG_BLOCK,
        BLOCK_E=block,
        ONLY_REPEATED=only_repeated,
        num_warps=4,
    )


def link_by_sorting(rows: Tensor) -> RowChains:
    """The same chains; a stable sort keeps the predictions of a row in ascending order."""
    sorted_rows, order = rows.sort(stable=True)
    starts_chain = sorted_rows[1:] != sorted_rows[:-1]
    is_first = torch.nn.functional.pad(starts_chain, (1, 0), value=True)
    is_last = torch.nn.functional.pad(starts_chain, (0, 1), value=True)
    places = torch.arange(len(rows), dtype=torch.int32, device=rows.device)
    starts = places.masked_fill(~is_first, 0).cummax(0).values
    ends = places.masked_fill(~is_last, len(rows)).flip(0).cummin(0).values.flip(0)
    position = torch.empty_like(places)
    rank = torch.empty_like(places)
    position[order] = places
    rank[order] = torch.where(is_first, starts - ends - 1, places - starts)
    return RowChains(order.to(torch.int32), position, rank)
