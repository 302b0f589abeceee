"""Hidden states may be predicted from several times: their gradients are added in order.

Atomic additions would make the sum depend on the timing of programs. Instead each prediction is
linked to the next one of the same row. A chain of links is added up in segments of `SEGMENT`
predictions side by side, then segments of segments, so that a row of which everything is predicted
costs `SEGMENT` dependent loads a level and not one for each prediction.
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
# Links that one program follows one after the other.
SEGMENT = 128
SUMMED_PREDICTIONS = 32
HIDDEN_BLOCK = 128

ALONE = tl.constexpr(-1)


@dataclass(frozen=True, eq=False)
class RowChains:
    """Predictions of the same row, in ascending order.

    Args:
        following: [M] int32, next prediction of the same row; M where there is none.
        rank: [M] int32, how many predictions of the same row are before it; `ALONE` where the row
            has no other.
    """

    following: Tensor
    rank: Tensor


@triton.jit(do_not_specialize=("num_predictions",))
def link_kernel(
    rows_ptr,
    following_ptr,
    rank_ptr,
    num_predictions,
    BLOCK_M: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Compare the rows of a block of predictions with those of all others.

    Rows that only rise, as those of a batch do, are read once: nobody has another.
    """
    predictions = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = predictions < num_predictions
    rows = tl.load(rows_ptr + predictions, mask=inside, other=-1)
    following = tl.zeros((BLOCK_M,), dtype=tl.int32) + num_predictions
    rank = tl.zeros((BLOCK_M,), dtype=tl.int32)
    does_not_rise = tl.zeros((WIDTH,), dtype=tl.int32)
    for start in range(0, num_predictions - 1, WIDTH):
        places = start + tl.arange(0, WIDTH)
        is_pair = places < num_predictions - 1
        left = tl.load(rows_ptr + places, mask=is_pair, other=0)
        right = tl.load(rows_ptr + places + 1, mask=is_pair, other=1)
        does_not_rise |= (left >= right).to(tl.int32)
    num_compared = num_predictions * tl.max(does_not_rise, axis=0)
    for start in range(0, num_compared, BLOCK):
        others = start + tl.arange(0, BLOCK)
        other_rows = tl.load(rows_ptr + others, mask=others < num_predictions, other=-2)
        is_same = rows[:, None] == other_rows[None, :]
        is_later = is_same & (others[None, :] > predictions[:, None])
        is_earlier = is_same & (others[None, :] < predictions[:, None])
        following = tl.minimum(
            following, tl.min(tl.where(is_later, others[None, :], num_predictions), axis=1)
        )
        rank += tl.sum(is_earlier.to(tl.int32), axis=1)
    tl.store(following_ptr + predictions, following, mask=inside)
    is_alone = (rank == 0) & (following == num_predictions)
    tl.store(rank_ptr + predictions, tl.where(is_alone, ALONE, rank), mask=inside)


@triton.jit(do_not_specialize=("num_predictions", "num_tokens", "span"))
def sum_chains_kernel(
    gradient_ptr,
    rows_ptr,
    following_ptr,
    rank_ptr,
    next_following_ptr,
    output_ptr,
    num_predictions,
    num_tokens,
    hidden_size,
    span,
    SEGMENT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_E: tl.constexpr,
    IS_LAST: tl.constexpr,
    ONLY_REPEATED: tl.constexpr,
):
    """Add the gradients of up to SEGMENT links to the first of every ``span`` predictions."""
    predictions = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    ranks = tl.load(rank_ptr + predictions, mask=predictions < num_predictions, other=1)
    is_first = (ranks >= 0) & (ranks % span == 0)
    if IS_LAST and not ONLY_REPEATED:
        is_first |= ranks == ALONE
    if tl.max(is_first.to(tl.int32), axis=0) > 0:
        units = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)
        is_unit = (units < hidden_size)[None, :]
        own_pointers = gradient_ptr + predictions.to(tl.int64)[:, None] * hidden_size + units
        total = tl.load(own_pointers, mask=is_first[:, None] & is_unit, other=0.0)
        current = tl.load(following_ptr + predictions, mask=is_first, other=num_predictions)
        links = 1
        while (links < SEGMENT) & (tl.min(current, axis=0) < num_predictions):
            has_more = current < num_predictions
            pointers = gradient_ptr + current.to(tl.int64)[:, None] * hidden_size + units
            total += tl.load(pointers, mask=has_more[:, None] & is_unit, other=0.0)
            current = tl.load(following_ptr + current, mask=has_more, other=num_predictions)
            links += 1
        if IS_LAST:
            rows = tl.load(rows_ptr + predictions, mask=is_first, other=-1).to(tl.int64)
            is_row = (rows >= 0) & (rows < num_tokens)
            pointers = output_ptr + rows[:, None] * hidden_size + units
            tl.store(pointers, total, mask=is_row[:, None] & is_unit)
        else:
            # Nobody else reads it: the chains that pass here end before the first of a segment.
            tl.store(own_pointers, total, mask=is_first[:, None] & is_unit)
            if tl.program_id(1) == 0:
                tl.store(next_following_ptr + predictions, current, mask=is_first)


def link_rows(rows: Tensor) -> RowChains:
    """Chains of [M] rows; M at least 1."""
    if len(rows) > COMPARED_PREDICTIONS:
        return link_by_sorting(rows)
    following = torch.empty(len(rows), dtype=torch.int32, device=rows.device)
    rank = torch.empty(len(rows), dtype=torch.int32, device=rows.device)
    link_kernel[(ceil_div(len(rows), LINKED_PREDICTIONS),)](
        rows,
        following,
        rank,
        len(rows),
        BLOCK_M=LINKED_PREDICTIONS,
        BLOCK=COMPARED_BLOCK,
        WIDTH=RISING_BLOCK,
        num_warps=4,
    )
    return RowChains(following, rank)


def sum_chains(
    gradient: Tensor, rows: Tensor, chains: RowChains, output: Tensor, *, only_repeated: bool
) -> None:
    """Write the sum over the predictions of each row to the rows of ``output``.

    Args:
        gradient: [M, E] of the predictions, in fp32; overwritten with sums of segments.
        output: [T, E]; rows without predictions stay as they are.
        only_repeated: leave out rows that one prediction alone has.
    """
    num_predictions, hidden_size = gradient.shape
    block = min(HIDDEN_BLOCK, next_power_of_2(hidden_size))
    grid = ceil_div(num_predictions, SUMMED_PREDICTIONS), ceil_div(hidden_size, block)
    spans = spans_of(num_predictions)
    following = chains.following
    for span in spans:
        is_last = span == spans[-1]
        # Another one: programs of other units still follow the old links.
        next_following = following if is_last else torch.empty_like(following)
        sum_chains_kernel[grid](
            gradient,
            rows,
            following,
            chains.rank,
            next_following,
            output,
            num_predictions,
            len(output),
            hidden_size,
            span,
            SEGMENT=SEGMENT,
            BLOCK_M=SUMMED_PREDICTIONS,
            BLOCK_E=block,
            IS_LAST=is_last,
            ONLY_REPEATED=only_repeated,
            num_warps=4,
        )
        following = next_following


def spans_of(num_predictions: int) -> list[int]:
    """Predictions that each level adds up to one; the last is no shorter than any chain."""
    spans = [SEGMENT]
    while spans[-1] < num_predictions:
        spans.append(spans[-1] * SEGMENT)
    return spans


def link_by_sorting(rows: Tensor) -> RowChains:
    """The same links; a stable sort keeps the predictions of a row in ascending order."""
    sorted_rows, order = rows.sort(stable=True)
    is_same = sorted_rows[1:] == sorted_rows[:-1]
    has_following = torch.nn.functional.pad(is_same, (0, 1))
    has_earlier = torch.nn.functional.pad(is_same, (1, 0))
    places = torch.arange(len(rows), dtype=torch.int32, device=rows.device)
    starts = places.masked_fill(has_earlier, 0).cummax(0).values
    is_alone = ~(has_following | has_earlier)
    following = torch.empty_like(places)
    rank = torch.empty_like(places)
    following[order] = order.roll(-1).masked_fill(~has_following, len(rows)).to(torch.int32)
    rank[order] = (places - starts).masked_fill(is_alone, ALONE.value)
    return RowChains(following, rank)
