"""Hidden states may be predicted from several times: their gradients are added in order.

Atomic additions would make the sum depend on the timing of programs. Instead each prediction is
linked to the next one of the same row, and one program follows each chain.
"""

# T tokens, M predictions, E hidden size

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

# Up to here each prediction is compared with each other, which is one launch of a few
# microseconds; from here on the rows are sorted.
COMPARED_PREDICTIONS = 16384
LINKED_PREDICTIONS = 32
COMPARED_BLOCK = 128
HIDDEN_BLOCK = 1024

LATER = tl.constexpr(0)
FIRST = tl.constexpr(1)
ONLY = tl.constexpr(2)


@dataclass(frozen=True, eq=False)
class RowChains:
    """Predictions of the same row, in ascending order.

    Args:
        following: [M] int32, next prediction of the same row; M where there is none.
        role: [M] int8, `ONLY` where the row has no other prediction, `FIRST` where it has later
            ones, `LATER` elsewhere.
    """

    following: Tensor
    role: Tensor


@triton.jit(do_not_specialize=("num_predictions",))
def link_kernel(
    rows_ptr, following_ptr, role_ptr, num_predictions, BLOCK_M: tl.constexpr, BLOCK: tl.constexpr
):
    """Compare the rows of a block of predictions with those of all others."""
    predictions = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = predictions < num_predictions
    rows = tl.load(rows_ptr + predictions, mask=inside, other=-1)
    following = tl.zeros((BLOCK_M,), dtype=tl.int32) + num_predictions
    num_earlier = tl.zeros((BLOCK_M,), dtype=tl.int32)
    for start in range(0, num_predictions, BLOCK):
        others = start + tl.arange(0, BLOCK)
        other_rows = tl.load(rows_ptr + others, mask=others < num_predictions, other=-2)
        is_same = rows[:, None] == other_rows[None, :]
        is_later = is_same & (others[None, :] > predictions[:, None])
        is_earlier = is_same & (others[None, :] < predictions[:, None])
        following = tl.minimum(
            following, tl.min(tl.where(is_later, others[None, :], num_predictions), axis=1)
        )
        num_earlier += tl.sum(is_earlier.to(tl.int32), axis=1)
    tl.store(following_ptr + predictions, following, mask=inside)
    role = tl.where(num_earlier > 0, LATER, tl.where(following < num_predictions, FIRST, ONLY))
    tl.store(role_ptr + predictions, role.to(tl.int8), mask=inside)


@triton.jit(do_not_specialize=("num_predictions", "num_tokens"))
def sum_chains_kernel(
    gradient_ptr,
    rows_ptr,
    following_ptr,
    role_ptr,
    output_ptr,
    num_predictions,
    num_tokens,
    hidden_size,
    BLOCK_E: tl.constexpr,
    ONLY_REPEATED: tl.constexpr,
):
    """Add the gradients of all predictions of one row, in their order."""
    prediction = tl.program_id(0)
    row = tl.load(rows_ptr + prediction).to(tl.int64)
    role = tl.load(role_ptr + prediction)
    is_summed = (role == FIRST) if ONLY_REPEATED else (role != LATER)
    if is_summed & (row >= 0) & (row < num_tokens):
        following = tl.load(following_ptr + prediction)
        units = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)
        is_unit = units < hidden_size
        pointers = gradient_ptr + prediction.to(tl.int64) * hidden_size + units
        total = tl.load(pointers, mask=is_unit, other=0.0).to(tl.float32)
        while following < num_predictions:
            pointers = gradient_ptr + following.to(tl.int64) * hidden_size + units
            total += tl.load(pointers, mask=is_unit, other=0.0).to(tl.float32)
            following = tl.load(following_ptr + following)
        tl.store(output_ptr + row * hidden_size + units, total, mask=is_unit)


def link_rows(rows: Tensor) -> RowChains:
    """Chains of [M] rows; M at least 1."""
    if len(rows) > COMPARED_PREDICTIONS:
        return link_by_sorting(rows)
    following = torch.empty(len(rows), dtype=torch.int32, device=rows.device)
    role = torch.empty(len(rows), dtype=torch.int8, device=rows.device)
    link_kernel[(triton.cdiv(len(rows), LINKED_PREDICTIONS),)](
        rows,
        following,
        role,
        len(rows),
        BLOCK_M=LINKED_PREDICTIONS,
        BLOCK=COMPARED_BLOCK,
        num_warps=4,
    )
    return RowChains(following, role)


def sum_chains(
    gradient: Tensor, rows: Tensor, chains: RowChains, output: Tensor, *, only_repeated: bool
) -> None:
    """Write the sum over the predictions of each row, in fp32, to the rows of ``output``.

    Args:
        gradient: [M, E] of the predictions.
        output: [T, E]; rows without predictions stay as they are.
        only_repeated: leave out rows that one prediction alone has.
    """
    num_predictions, hidden_size = gradient.shape
    block = min(HIDDEN_BLOCK, triton.next_power_of_2(hidden_size))
    sum_chains_kernel[num_predictions, triton.cdiv(hidden_size, block)](
        gradient,
        rows,
        chains.following,
        chains.role,
        output,
        num_predictions,
        len(output),
        hidden_size,
        BLOCK_E=block,
        ONLY_REPEATED=only_repeated,
        num_warps=4,
    )


def link_by_sorting(rows: Tensor) -> RowChains:
    """The same links; a stable sort keeps the predictions of a row in ascending order."""
    sorted_rows, order = rows.sort(stable=True)
    is_same = sorted_rows[1:] == sorted_rows[:-1]
    has_following = torch.nn.functional.pad(is_same, (0, 1))
    has_earlier = torch.nn.functional.pad(is_same, (1, 0))
    following_order = order.roll(-1).masked_fill(~has_following, len(rows))
    roles = has_following.logical_not().to(torch.int8) + FIRST.value
    following = torch.empty(len(rows), dtype=torch.int32, device=rows.device)
    role = torch.empty(len(rows), dtype=torch.int8, device=rows.device)
    following[order] = following_order.to(torch.int32)
    role[order] = roles.masked_fill(has_earlier, LATER.value)
    return RowChains(following, role)
