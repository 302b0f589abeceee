"""From the tensors of an operator to the launches of its kernels."""

# M predictions, K ids of each, V vocabulary

from __future__ import annotations

import torch
from torch import Tensor

from seqmlm_kernels.rejected_targets import rejected_targets
from seqmlm_kernels.triton.launch import INTERPRETED, architecture_of, on_device
from seqmlm_kernels.triton.projection_backward import Needs, Upstream, backward
from seqmlm_kernels.triton.projection_forward import Projection, forward
from seqmlm_kernels.triton.projection_plan import (
    ProjectionPlan,
    multiprocessors_of,
    plan_projection,
    regime_of,
    score_stride,
)
from seqmlm_kernels.triton.projection_tiles import TilesKey
from seqmlm_kernels.triton.token_scores import token_scores
from seqmlm_kernels.triton.top_k import best_ids
from seqmlm_kernels.triton.tuned_launches import is_tuning_enabled, tuned_tiles


def contiguous_projection(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    words: Tensor | None,
    set_index: Tensor | None,
) -> Projection:
    """The arguments as kernels read them."""
    return Projection(
        hidden=hidden.contiguous(),
        weight=weight.contiguous(),
        bias=None if bias is None else bias.contiguous(),
        rows=rows.contiguous(),
        words=None if words is None else words.contiguous(),
        set_index=None if set_index is None else set_index.contiguous(),
    )


def plan_of(projection: Projection) -> ProjectionPlan:
    """How a projection of at least one prediction runs on its device.

    With tiles that were tuned for the device, if the environment asks for them.
    """
    hidden, device = projection.hidden, projection.hidden.device
    size = len(projection.rows), len(projection.weight)
    architecture = "interpreter" if INTERPRETED else architecture_of(device)
    tiles = None
    if is_tuning_enabled():
        key = TilesKey.of(
            regime_of(*size),
            architecture=architecture,
            dtype=hidden.dtype,
            input_precision=projection.precision,
        )
        tiles = tuned_tiles(key, device)
    return plan_projection(
        *size,
        hidden.shape[1],
        dtype=hidden.dtype,
        architecture=architecture,
        multiprocessors=multiprocessors_of(device),
        tiles=tiles,
    )


def contiguous_upstream(
    targets: Tensor,
    log_normaliser: Tensor,
    scores: Tensor,
    loss_gradient: Tensor,
    log_normaliser_gradient: Tensor,
) -> Upstream:
    """What a backward starts from, as kernels read it; no scores where they are empty."""
    return Upstream(
        targets=targets.contiguous(),
        log_normaliser=log_normaliser.contiguous(),
        scores=scores.contiguous() if scores.numel() > 0 else None,
        loss_gradient=loss_gradient.contiguous(),
        log_normaliser_gradient=log_normaliser_gradient.contiguous(),
    )


def loss(
    projection: Projection, targets: Tensor, *, keep_scores: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and log-normaliser [M] and scores [M, `score_stride`] in fp32; these may be empty."""
    rows, weight = projection.rows, projection.weight
    shape = (len(rows), score_stride(len(weight))) if keep_scores else (0, 0)
    scores = projection.hidden.new_empty(shape, dtype=torch.float32)
    if len(rows) == 0:
        nothing = projection.hidden.new_empty(0, dtype=torch.float32)
        return nothing, nothing.clone(), scores
    device = projection.hidden.device
    rejected = rejected_targets(device)
    with on_device(device):
        found = forward(
            plan_of(projection),
            projection,
            targets.contiguous(),
            rejected,
            scores if keep_scores else None,
        )
    return *found, scores


def gradients(
    projection: Projection, upstream: Upstream, needs: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of hidden states, weight and bias; empty where ``needs`` is false."""
    hidden, weight = projection.hidden, projection.weight
    if len(projection.rows) == 0:
        return (
            torch.zeros_like(hidden) if needs[0] else hidden.new_empty(0),
            torch.zeros_like(weight) if needs[1] else hidden.new_empty(0),
            weight.new_zeros(len(weight)) if needs[2] else hidden.new_empty(0),
        )
    with on_device(hidden.device):
        found = backward(plan_of(projection), projection, upstream, Needs(*needs))
    return (
        hidden.new_empty(0) if found.hidden is None else found.hidden,
        hidden.new_empty(0) if found.weight is None else found.weight,
        hidden.new_empty(0) if found.bias is None else found.bias,
    )


def log_likelihood(projection: Projection, token_ids: Tensor) -> Tensor:
    """Log-probabilities [M, K] in fp32."""
    if token_ids.numel() == 0:
        return projection.hidden.new_empty(token_ids.shape, dtype=torch.float32)
    # Only the normaliser is used: there is no target to reject.
    nobody = torch.zeros(1, dtype=torch.int64, device=token_ids.device)
    with on_device(token_ids.device):
        _, log_normaliser = forward(plan_of(projection), projection, projection.rows, nobody, None)
        return token_scores(projection, token_ids, log_normaliser)


def top_k(projection: Projection, k: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities in fp32 and ids in int64, [M, k]."""
    shape = len(projection.rows), k
    if len(projection.rows) == 0:
        hidden = projection.hidden
        return hidden.new_empty(shape, dtype=torch.float32), hidden.new_empty(
            shape, dtype=torch.int64
        )
    with on_device(projection.hidden.device):
        return best_ids(projection, k)
