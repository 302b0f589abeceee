"""Cross-entropy, likelihoods and best ids over a projection, as operators that torch knows."""

# M predictions, K ids of each, V vocabulary, E hidden size, R allowed sets

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmlm_kernels import torch_backend
from seqmlm_kernels.triton import closed_form
from seqmlm_kernels.triton import projection_launch as launch
from seqmlm_kernels.triton.launch import INTERPRETED
from seqmlm_kernels.triton.projection_plan import score_stride


@torch.library.custom_op(
    "seqmlm_kernels::projected_cross_entropy", mutates_args=(), device_types="cuda"
)
def projected_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    targets: Tensor,
    words: Tensor | None,
    set_index: Tensor | None,
    keep_scores: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and log-normaliser [M] in fp32, differentiable, and what the backward needs of scores.

    The scores are [M, `score_stride`] in fp32, written where the backward reads them, or empty
    unless they are kept: the backward then computes them again.
    """
    projection = launch.contiguous_projection(hidden, weight, bias, rows, words, set_index)
    return launch.loss(projection, targets, keep_scores=keep_scores)


@projected_cross_entropy.register_kernel("cpu")
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    targets: Tensor,
    words: Tensor | None,
    set_index: Tensor | None,
    keep_scores: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if INTERPRETED:
        projection = launch.contiguous_projection(hidden, weight, bias, rows, words, set_index)
        return launch.loss(projection, targets, keep_scores=keep_scores)
    sets = closed_form.allowed_sets(words, set_index)
    found = torch_backend.masked_cross_entropy(hidden, weight, bias, rows, targets, sets)
    # The backward of this device computes the scores again: only their shape is promised.
    return *found, found[0].new_zeros(_kept_shape(rows, weight, keep_scores))


@projected_cross_entropy.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    targets: Tensor,
    words: Tensor | None,
    set_index: Tensor | None,
    keep_scores: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    return (
        hidden.new_empty(rows.shape, dtype=dtype),
        hidden.new_empty(rows.shape, dtype=dtype),
        hidden.new_empty(_kept_shape(rows, weight, keep_scores), dtype=dtype),
    )


def _kept_shape(rows: Tensor, weight: Tensor, keep_scores: bool) -> tuple[int, int]:
    return (rows.shape[0], score_stride(weight.shape[0])) if keep_scores else (0, 0)


@torch.library.custom_op(
    "seqmlm_kernels::projected_cross_entropy_backward", mutates_args=(), device_types="cuda"
)
def projected_cross_entropy_backward(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    targets: Tensor,
    words: Tensor | None,
    set_index: Tensor | None,
    log_normaliser: Tensor,
    scores: Tensor,
    loss_gradient: Tensor,
    log_normaliser_gradient: Tensor,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of hidden states, weight and bias; empty where ``needs`` is false."""
    projection = launch.contiguous_projection(hidden, weight, bias, rows, words, set_index)
    upstream = launch.contiguous_upstream(
        targets, log_normaliser, scores, loss_gradient, log_normaliser_gradient
    )
    return launch.gradients(projection, upstream, needs)


@projected_cross_entropy_backward.register_kernel("cpu")
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    targets: Tensor,
    words: Tensor | None,
    set_index: Tensor | None,
    log_normaliser: Tensor,
    scores: Tensor,
    loss_gradient: Tensor,
    log_normaliser_gradient: Tensor,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    if INTERPRETED:
        projection = launch.contiguous_projection(hidden, weight, bias, rows, words, set_index)
        upstream = launch.contiguous_upstream(
            targets, log_normaliser, scores, loss_gradient, log_normaliser_gradient
        )
        return launch.gradients(projection, upstream, needs)
    sets = closed_form.allowed_sets(words, set_index)
    above = log_normaliser, loss_gradient, log_normaliser_gradient
    gradients = closed_form.projection_gradients(hidden, weight, bias, rows, targets, sets, above)
    found = [
        gradient if needed else hidden.new_empty(0)
        for gradient, needed in zip(gradients, needs, strict=True)
    ]
    return found[0], found[1], found[2]


@projected_cross_entropy_backward.register_fake
def _(hidden: Tensor, weight: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    needs = others[-1]
    return (
        hidden.new_empty(hidden.shape if needs[0] else (0,)),
        weight.new_empty(weight.shape if needs[1] else (0,)),
        weight.new_empty(weight.shape[:1] if needs[2] else (0,)),
    )


def _setup_context(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]
) -> None:
    _, log_normaliser, scores = output
    *tensors, _ = inputs
    ctx.mark_non_differentiable(scores)
    ctx.set_materialize_grads(False)  # the gradient of the scores would be zeros of their size
    ctx.save_for_backward(*tensors, log_normaliser, scores)


def _backward(
    ctx: Any, loss_gradient: Tensor | None, log_normaliser_gradient: Tensor | None, _: None
) -> tuple[Tensor | None, ...]:
    needs = list(ctx.needs_input_grad[:3])
    saved = ctx.saved_tensors  # once: checkpointing computes them when they are asked for
    log_normaliser = saved[-2]
    upstream = (
        torch.zeros_like(log_normaliser) if gradient is None else gradient
        for gradient in (loss_gradient, log_normaliser_gradient)
    )
    gradients = projected_cross_entropy_backward(*saved, *upstream, needs)
    wanted = (
        gradient if needed else None for gradient, needed in zip(gradients, needs, strict=True)
    )
    return *wanted, None, None, None, None, None


projected_cross_entropy.register_autograd(_backward, setup_context=_setup_context)


@torch.library.custom_op(
    "seqmlm_kernels::projected_log_likelihood", mutates_args=(), device_types="cuda"
)
def projected_log_likelihood(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    token_ids: Tensor,
    words: Tensor | None,
    set_index: Tensor | None,
) -> Tensor:
    """Log-probabilities [M, K] in fp32 without the scores of other ids; no gradient flows."""
    return launch.log_likelihood(
        launch.contiguous_projection(hidden, weight, bias, rows, words, set_index), token_ids
    )


@projected_log_likelihood.register_kernel("cpu")
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    token_ids: Tensor,
    words: Tensor | None,
    set_index: Tensor | None,
) -> Tensor:
    if INTERPRETED:
        projection = launch.contiguous_projection(hidden, weight, bias, rows, words, set_index)
        return launch.log_likelihood(projection, token_ids)
    sets = closed_form.allowed_sets(words, set_index)
    return torch_backend.token_log_likelihood(hidden, weight, bias, rows, token_ids, sets)


@projected_log_likelihood.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    token_ids: Tensor,
    *sets: Tensor | None,
) -> Tensor:
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    return hidden.new_empty(token_ids.shape, dtype=dtype)


@torch.library.custom_op("seqmlm_kernels::projected_top_k", mutates_args=(), device_types="cuda")
def projected_top_k(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    k: int,
    words: Tensor | None,
    set_index: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities in fp32 and ids in int64, [M, k]; no gradient flows."""
    return launch.top_k(
        launch.contiguous_projection(hidden, weight, bias, rows, words, set_index), k
    )


@projected_top_k.register_kernel("cpu")
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    k: int,
    words: Tensor | None,
    set_index: Tensor | None,
) -> tuple[Tensor, Tensor]:
    if INTERPRETED:
        return launch.top_k(
            launch.contiguous_projection(hidden, weight, bias, rows, words, set_index), k
        )
    sets = closed_form.allowed_sets(words, set_index)
    return torch_backend.top_k(hidden, weight, bias, rows, k, sets)


@projected_top_k.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    k: int,
    *sets: Tensor | None,
) -> tuple[Tensor, Tensor]:
    shape = (rows.shape[0], k)
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    return hidden.new_empty(shape, dtype=dtype), hidden.new_empty(shape, dtype=torch.int64)
