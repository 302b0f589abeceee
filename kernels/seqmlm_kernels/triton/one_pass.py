"""The backward over a vocabulary of at most 64 ids, in one kernel that reads each operand once.

Of each tile of predictions the gradient of the scores stays in registers, from the scores that the
forward kept. It gives the gradient of the hidden states at once, and adds to that of the weight,
which a program holds for its hidden units and its share of the predictions. The shares are added
in their order by a second kernel; nothing is added atomically.
"""

# M predictions, V vocabulary, E hidden size, S shares

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqmlm_kernels.triton.gradient_kernels import store_where_alone
from seqmlm_kernels.triton.projection_forward import Projection
from seqmlm_kernels.triton.projection_plan import OnePass
from seqmlm_kernels.triton.repeated_rows import link_rows, sum_chains
from seqmlm_kernels.triton.vocabulary import (
    kept_scores,
    load_float,
    load_rows,
    load_set_offsets,
    score_gradient_of_tile,
)
from seqmlm_kernels.triton.waves import ceil_div

# Numbers that one program adds up.
SUMMED_NUMBERS = 512


@triton.jit(do_not_specialize=("num_predictions", "num_tokens", "num_sets", "steps_per_split"))
def one_pass_kernel(
    hidden_ptr,
    weight_ptr,
    rows_ptr,
    words_ptr,
    set_index_ptr,
    targets_ptr,
    loss_gradient_ptr,
    log_normaliser_gradient_ptr,
    log_normaliser_ptr,
    scores_ptr,
    rank_ptr,
    scale_ptr,
    sum_ptr,
    output_ptr,
    partial_ptr,
    bias_partial_ptr,
    num_predictions,
    vocabulary_size,
    hidden_size,
    num_tokens,
    num_sets,
    num_words,
    score_stride,
    steps_per_split,
    BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_E: tl.constexpr,
    EVEN_E: tl.constexpr,
    SETS: tl.constexpr,
    NEEDS_BIAS_GRADIENT: tl.constexpr,
    SCALES: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Gradients of some hidden units: of the hidden states, and a share of that of the weight."""
    split = tl.program_id(1)
    units = tl.program_id(0) * BLOCK_E + tl.arange(0, BLOCK_E)
    is_unit = units < hidden_size
    ids = tl.arange(0, BLOCK_V)
    # Past the vocabulary the gradient of the scores is zero; the last id stands in.
    weight_rows = tl.minimum(ids, vocabulary_size - 1) * hidden_size
    weight_pointers = weight_ptr + weight_rows[:, None] + units[None, :]
    weight = load_float(weight_pointers, is_unit[None, :], not EVEN_E, UPCAST)
    scale = 1.0
    if SCALES:
        scale = tl.load(scale_ptr)
    weight_gradient = tl.zeros((BLOCK_V, BLOCK_E), dtype=tl.float32)
    bias_gradient = tl.zeros((BLOCK_V,), dtype=tl.float32)
    first = split * steps_per_split
    last = tl.minimum(first + steps_per_split, tl.cdiv(num_predictions, BLOCK_M))
    for step in range(first, last):
        predictions = step * BLOCK_M + tl.arange(0, BLOCK_M)
        inside = predictions < num_predictions
        rows, is_row = load_rows(rows_ptr, predictions, num_predictions, num_tokens)
        set_offsets, is_set = load_set_offsets(
            set_index_ptr, predictions, num_predictions, num_sets, num_words, SETS
        )
        pointers, exists = kept_scores(scores_ptr, predictions, ids, num_predictions, score_stride)
        gradient = score_gradient_of_tile(
            tl.load(pointers, mask=exists, other=0.0), log_normaliser_ptr, loss_gradient_ptr,
            log_normaliser_gradient_ptr, targets_ptr, words_ptr, set_offsets, predictions,
            is_row & is_set, 0, num_predictions, vocabulary_size, num_words,
            BLOCK_M, BLOCK_V, SETS,
        )  # fmt: skip
        if NEEDS_BIAS_GRADIENT:
            bias_gradient += tl.sum(gradient, axis=0)
        hidden_pointers = hidden_ptr + rows[:, None] * hidden_size + units[None, :]
        hidden = load_float(hidden_pointers, is_unit[None, :], not EVEN_E, UPCAST)
        scores = gradient.to(hidden.dtype)
        weight_gradient = tl.dot(
            tl.trans(scores), hidden, weight_gradient, input_precision=PRECISION
        )
        hidden_gradient = tl.dot(scores, weight, input_precision=PRECISION) * scale
        stored = store_where_alone(
            hidden_gradient, output_ptr, rank_ptr, rows, is_row, predictions, inside, units,
            inside[:, None] & is_unit[None, :], hidden_size,
        )  # fmt: skip
        sum_pointers = sum_ptr + predictions.to(tl.int64)[:, None] * hidden_size + units[None, :]
        tl.store(sum_pointers, hidden_gradient, mask=stored)

    pointers = partial_ptr + split.to(tl.int64) * vocabulary_size * hidden_size
    pointers += ids[:, None] * hidden_size + units[None, :]
    stored = (ids < vocabulary_size)[:, None] & is_unit[None, :]
    tl.store(pointers, weight_gradient * scale, mask=stored)
    if NEEDS_BIAS_GRADIENT:
        # Every tile of hidden units has the same.
        stored = (ids < vocabulary_size) & (tl.program_id(0) == 0)
        bias_pointers = bias_partial_ptr + split * vocabulary_size + ids
        tl.store(bias_pointers, bias_gradient * scale, mask=stored)


@triton.jit(do_not_specialize=("num_parts",))
def sum_parts_kernel(partial_ptr, output_ptr, num_parts, num_numbers, BLOCK: tl.constexpr):
    """Add the parts of some numbers, in their order."""
    numbers = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = numbers < num_numbers
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for _ in range(num_parts):
        total += tl.load(partial_ptr + numbers, mask=inside, other=0.0)
        partial_ptr += num_numbers
    tl.store(output_ptr + numbers, total, mask=inside)


def gradients_in_one_pass(
    plan: OnePass,
    projection: Projection,
    upstream: dict[str, Tensor],
    scale: Tensor | None,
    *,
    needs_bias: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of hidden states [T, E], weight [V, E] and bias [V].

    Args:
        upstream: pointer arguments: what the forward kept, and what comes from above.
        scale: [] factor of all gradients in fp32.
    """
    hidden, weight, tiles = projection.hidden, projection.weight, plan.tiles
    num_predictions, hidden_size = len(projection.rows), hidden.shape[1]
    empty = partial(torch.empty, dtype=torch.float32, device=hidden.device)
    row_sum, output = empty((num_predictions, hidden_size)), torch.zeros_like(hidden)
    weight_parts = empty((plan.splits, *weight.shape))
    bias_parts = empty((plan.splits, len(weight))) if needs_bias else row_sum
    chains = link_rows(projection.rows)
    pointers = {name: x for name, x in projection.pointers().items() if name != "bias_ptr"}
    num_steps = ceil_div(num_predictions, tiles.predictions)
    one_pass_kernel[ceil_div(hidden_size, tiles.hidden), plan.splits](
        **pointers,
        **projection.sizes(),
        **upstream,
        rank_ptr=chains.rank,
        scale_ptr=row_sum if scale is None else scale,
        sum_ptr=row_sum,
        output_ptr=output,
        partial_ptr=weight_parts,
        bias_partial_ptr=bias_parts,
        score_stride=upstream["scores_ptr"].stride(0),
        steps_per_split=ceil_div(num_steps, plan.splits),
        BLOCK_M=tiles.predictions,
        BLOCK_V=tiles.vocabulary,
        BLOCK_E=tiles.hidden,
        EVEN_E=hidden_size % tiles.hidden == 0,
        SETS=projection.sets,
        NEEDS_BIAS_GRADIENT=needs_bias,
        SCALES=scale is not None,
        PRECISION=projection.precision,
        UPCAST=projection.upcast,
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
    )
    sum_chains(row_sum, projection.rows, chains, output, only_repeated=True)
    weight_gradient = _sum_of_parts(weight_parts, weight.dtype)
    return output, weight_gradient, _sum_of_parts(bias_parts, weight.dtype) if needs_bias else None


def _sum_of_parts(parts: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum over the first dimension of fp32 parts, rounded once."""
    output = torch.empty(parts.shape[1:], dtype=dtype, device=parts.device)
    grid = (ceil_div(output.numel(), SUMMED_NUMBERS),)
    sum_parts_kernel[grid](
        parts, output, len(parts), output.numel(), BLOCK=SUMMED_NUMBERS, num_warps=4
    )
    return output
