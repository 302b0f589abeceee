"""Masked softmax of scores that exist already, and its cross-entropy, as operators."""

# M rows, V ids, R allowed sets

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from seqmlm_kernels import torch_backend
from seqmlm_kernels.allowed import AllowedSets
from seqmlm_kernels.rejected_targets import rejected_targets
from seqmlm_kernels.triton import closed_form, row_kernels
from seqmlm_kernels.triton.launch import INTERPRETED, on_device

# Elements that a program holds at a time: one long row in parts, or several short rows.
TILE_ELEMENTS = 4096


@torch.library.custom_op(
    "seqmlm_kernels::cross_entropy_of_scores", mutates_args=(), device_types="cuda"
)
def cross_entropy_of_scores(
    scores: Tensor, targets: Tensor, words: Tensor | None, set_index: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Loss and log-normaliser [M] in fp32 of scores [M, V]; differentiable."""
    return _cross_entropy(scores, targets, words, set_index)


@cross_entropy_of_scores.register_kernel("cpu")
def _(
    scores: Tensor, targets: Tensor, words: Tensor | None, set_index: Tensor | None
) -> tuple[Tensor, Tensor]:
    if INTERPRETED:
        return _cross_entropy(scores, targets, words, set_index)
    sets = closed_form.allowed_sets(words, set_index)
    return closed_form.cross_entropy_of_scores(scores, targets, sets)


@cross_entropy_of_scores.register_fake
def _(
    scores: Tensor, targets: Tensor, words: Tensor | None, set_index: Tensor | None
) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(scores.dtype, torch.float32)
    return (
        scores.new_empty(scores.shape[:1], dtype=dtype),
        scores.new_empty(scores.shape[:1], dtype=dtype),
    )


@torch.library.custom_op(
    "seqmlm_kernels::cross_entropy_of_scores_backward", mutates_args=(), device_types="cuda"
)
def cross_entropy_of_scores_backward(
    scores: Tensor,
    targets: Tensor,
    words: Tensor | None,
    set_index: Tensor | None,
    log_normaliser: Tensor,
    loss_gradient: Tensor,
    log_normaliser_gradient: Tensor,
) -> Tensor:
    """Gradient [M, V] of the scores."""
    return _cross_entropy_gradient(
        scores, targets, words, set_index, log_normaliser, loss_gradient, log_normaliser_gradient
    )


@cross_entropy_of_scores_backward.register_kernel("cpu")
def _(
    scores: Tensor,
    targets: Tensor,
    words: Tensor | None,
    set_index: Tensor | None,
    log_normaliser: Tensor,
    loss_gradient: Tensor,
    log_normaliser_gradient: Tensor,
) -> Tensor:
    upstream = log_normaliser, loss_gradient, log_normaliser_gradient
    if INTERPRETED:
        return _cross_entropy_gradient(scores, targets, words, set_index, *upstream)
    sets = closed_form.allowed_sets(words, set_index)
    return closed_form.score_gradient(scores, targets, sets, *upstream)


@cross_entropy_of_scores_backward.register_fake
def _(
    scores: Tensor,
    targets: Tensor,
    words: Tensor | None,
    set_index: Tensor | None,
    log_normaliser: Tensor,
    loss_gradient: Tensor,
    log_normaliser_gradient: Tensor,
) -> Tensor:
    return scores.new_empty(scores.shape)


def _setup_cross_entropy(
    ctx: Any,
    inputs: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    output: tuple[Tensor, Tensor],
) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _differentiate_cross_entropy(
    ctx: Any, loss_gradient: Tensor, log_normaliser_gradient: Tensor
) -> tuple[Tensor, None, None, None]:
    gradient = cross_entropy_of_scores_backward(
        *ctx.saved_tensors, loss_gradient, log_normaliser_gradient
    )
    return gradient, None, None, None


cross_entropy_of_scores.register_autograd(
    _differentiate_cross_entropy, setup_context=_setup_cross_entropy
)


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


def _cross_entropy(
    scores: Tensor, targets: Tensor, words: Tensor | None, set_index: Tensor | None
) -> tuple[Tensor, Tensor]:
    loss = scores.new_empty(len(scores), dtype=torch.float32)
    log_normaliser = torch.empty_like(loss)
    if len(scores) > 0:
        scores = scores.contiguous()
        block_m, block_v = blocks_of(scores)
        with on_device(scores.device):
            row_kernels.cross_entropy_kernel[(triton.cdiv(len(scores), block_m),)](
                scores_ptr=scores,
                **_sets(scores, words, set_index),
                targets_ptr=targets.contiguous(),
                loss_ptr=loss,
                log_normaliser_ptr=log_normaliser,
                rejected_ptr=rejected_targets(scores.device),
                BLOCK_M=block_m,
                BLOCK_V=block_v,
            )
    return loss, log_normaliser


def _cross_entropy_gradient(
    scores: Tensor,
    targets: Tensor,
    words: Tensor | None,
    set_index: Tensor | None,
    log_normaliser: Tensor,
    loss_gradient: Tensor,
    log_normaliser_gradient: Tensor,
) -> Tensor:
    scores = scores.contiguous()
    output = torch.empty_like(scores)
    if len(scores) > 0:
        block_m, block_v = blocks_of(scores)
        grid = triton.cdiv(len(scores), block_m), triton.cdiv(scores.shape[1], block_v)
        with on_device(scores.device):
            row_kernels.cross_entropy_gradient_kernel[grid](
                scores_ptr=scores,
                **_sets(scores, words, set_index),
                targets_ptr=targets.contiguous(),
                log_normaliser_ptr=log_normaliser.contiguous(),
                loss_gradient_ptr=loss_gradient.contiguous(),
                log_normaliser_gradient_ptr=log_normaliser_gradient.contiguous(),
                output_ptr=output,
                BLOCK_M=block_m,
                BLOCK_V=block_v,
            )
    return output


def _softmax(scores: Tensor, words: Tensor, set_index: Tensor | None) -> Tensor:
    scores = scores.contiguous()
    output = torch.empty_like(scores)
    if len(scores) > 0:
        block_m, block_v = blocks_of(scores)
        with on_device(scores.device):
            row_kernels.softmax_kernel[(triton.cdiv(len(scores), block_m),)](
                scores_ptr=scores,
                **_sets(scores, words, set_index),
                output_ptr=output,
                BLOCK_M=block_m,
                BLOCK_V=block_v,
            )
    return output


def _softmax_gradient(
    probabilities: Tensor, gradient: Tensor, words: Tensor, set_index: Tensor | None
) -> Tensor:
    output = torch.empty_like(probabilities)
    if len(probabilities) > 0:
        block_m, block_v = blocks_of(probabilities)
        with on_device(probabilities.device):
            row_kernels.softmax_gradient_kernel[(triton.cdiv(len(probabilities), block_m),)](
                probabilities_ptr=probabilities,
                gradient_ptr=gradient.contiguous(),
                **_sets(probabilities, words, set_index),
                output_ptr=output,
                BLOCK_M=block_m,
                BLOCK_V=block_v,
            )
    return output


def blocks_of(scores: Tensor) -> tuple[int, int]:
    """Rows and ids of a tile: short rows share a program."""
    block_v = min(triton.next_power_of_2(scores.shape[1]), TILE_ELEMENTS)
    return max(1, TILE_ELEMENTS // block_v), block_v


def _sets(scores: Tensor, words: Tensor | None, set_index: Tensor | None) -> dict[str, Any]:
    """Arguments that every kernel over rows has; pointers to what is absent dangle."""
    kind = "every" if words is None else "shared" if set_index is None else "indexed"
    return {
        "words_ptr": scores if words is None else words.contiguous(),
        "set_index_ptr": scores if set_index is None else set_index.contiguous(),
        "num_rows": len(scores),
        "vocabulary_size": scores.shape[1],
        "num_sets": 1 if words is None else len(words),
        "num_words": 1 if words is None else words.shape[1],
        "SETS": kind,
    }
