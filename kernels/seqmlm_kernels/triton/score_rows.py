"""Masked softmax of scores that exist already, as an operator."""

# M rows, V ids, R allowed sets

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmlm_kernels import torch_backend
from seqmlm_kernels.allowed import AllowedSets
from seqmlm_kernels.triton import closed_form, row_kernels
from seqmlm_kernels.triton.launch import INTERPRETED, on_device
from seqmlm_kernels.triton.waves import ceil_div, next_power_of_2

# Elements that a program holds at a time: one long row in parts, or several short rows.
TILE_ELEMENTS = 4096
NUM_WARPS = 8


@torch.library.custom_op("seqmlm_kernels::masked_softmax", mutates_args=(), device_types="cuda")
def softmax_of_scores(scores: Tensor, words: Tensor, set_index: Tensor | None) -> Tensor:
    """Probabilities [M, V] over the allowed ids; differentiable."""
    return _softmax(scores, words, set_index)


@softmax_of_scores.register_kernel("cpu")
def _(scores: Tensor, words: Tensor, set_index: Tensor | None) -> Tensor:
    if INTERPRETED:
        return _softmax(scores, words, set_index)
    return torch_backend.masked_softmax(scores, AllowedSets(words, set_index))


@softmax_of_scores.register_fake
def _(scores: Tensor, words: Tensor, set_index: Tensor | None) -> Tensor:
    return scores.new_empty(scores.shape)


@torch.library.custom_op(
    "seqmlm_kernels::masked_softmax_backward", mutates_args=(), device_types="cuda"
)
def softmax_of_scores_backward(
    probabilities: Tensor, gradient: Tensor, words: Tensor, set_index: Tensor | None
) -> Tensor:
    """Gradient [M, V] of the scores, exactly zero where an id is not allowed."""
    return _softmax_gradient(probabilities, gradient, words, set_index)


@softmax_of_scores_backward.register_kernel("cpu")
def _(probabilities: Tensor, gradient: Tensor, words: Tensor, set_index: Tensor | None) -> Tensor:
    if INTERPRETED:
        return _softmax_gradient(probabilities, gradient, words, set_index)
    return closed_form.softmax_gradient(probabilities, gradient)


@softmax_of_scores_backward.register_fake
def _(probabilities: Tensor, gradient: Tensor, words: Tensor, set_index: Tensor | None) -> Tensor:
    return probabilities.new_empty(probabilities.shape)


def _setup_softmax(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    _, words, set_index = inputs
    ctx.save_for_backward(output, words, set_index)


def _differentiate_softmax(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    probabilities, words, set_index = ctx.saved_tensors
    return softmax_of_scores_backward(probabilities, gradient, words, set_index), None, None


softmax_of_scores.register_autograd(_differentiate_softmax, setup_context=_setup_softmax)


def _softmax(scores: Tensor, words: Tensor, set_index: Tensor | None) -> Tensor:
    scores = scores.contiguous()
    output = torch.empty_like(scores)
    if len(scores) > 0:
        block_m, block_v = blocks_of(scores)
        with on_device(scores.device):
            row_kernels.softmax_kernel[(ceil_div(len(scores), block_m),)](
                scores_ptr=scores,
                **_sets(scores, words, set_index),
                output_ptr=output,
                BLOCK_M=block_m,
                BLOCK_V=block_v,
                num_warps=NUM_WARPS,
            )
    return output


def _softmax_gradient(
    probabilities: Tensor, gradient: Tensor, words: Tensor, set_index: Tensor | None
) -> Tensor:
    probabilities = probabilities.contiguous()
    output = torch.empty_like(probabilities)
    if len(probabilities) > 0:
        block_m, block_v = blocks_of(probabilities)
        with on_device(probabilities.device):
            row_kernels.softmax_gradient_kernel[(ceil_div(len(probabilities), block_m),)](
                probabilities_ptr=probabilities,
                gradient_ptr=gradient.contiguous(),
                **_sets(probabilities, words, set_index),
                output_ptr=output,
                BLOCK_M=block_m,
                BLOCK_V=block_v,
                num_warps=NUM_WARPS,
            )
    return output


def blocks_of(scores: Tensor) -> tuple[int, int]:
    """Rows and ids of a tile: short rows share a program."""
    block_v = min(next_power_of_2(scores.shape[1]), TILE_ELEMENTS)
    return max(1, TILE_ELEMENTS // block_v), block_v


def _sets(scores: Tensor, words: Tensor, set_index: Tensor | None) -> dict[str, Any]:
    """Arguments that every kernel over rows has; pointers to what is absent dangle."""
    return {
        "words_ptr": words.contiguous(),
        "set_index_ptr": scores if set_index is None else set_index.contiguous(),
        "num_rows": len(scores),
        "vocabulary_size": scores.shape[1],
        "num_sets": len(words),
        "num_words": words.shape[1],
        "SETS": "shared" if set_index is None else "indexed",
    }
