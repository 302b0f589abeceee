"""The operators' CPU implementation where Triton does not interpret: loss and gradient in torch.

A graph that was traced on a GPU can then run on a CPU. Gradients are written out because autograd
does not record within an operator.
"""

# M predictions, V vocabulary, E hidden size

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from seqmlm_kernels.allowed import AllowedSets


def allowed_sets(words: Tensor | None, set_index: Tensor | None) -> AllowedSets | None:
    """Sets from the tensors that an operator takes."""
    return None if words is None else AllowedSets(words, set_index)


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor in fp32, or in fp64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def cross_entropy_of_scores(
    scores: Tensor, targets: Tensor, sets: AllowedSets | None
) -> tuple[Tensor, Tensor]:
    """Loss and log-normaliser [M] of given scores [M, V]."""
    scores = at_least_float32(scores)
    mask = _mask(scores, sets)
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    log_normaliser = torch.where(mask.any(-1), filled.logsumexp(-1), -torch.inf)
    target = targets.long().unsqueeze(-1)
    loss = log_normaliser - scores.gather(1, target).squeeze(-1)
    has_target = mask.expand_as(scores).gather(1, target).squeeze(-1)
    return torch.where(has_target, loss, 0.0), log_normaliser


def score_gradient(
    scores: Tensor,
    targets: Tensor,
    sets: AllowedSets | None,
    log_normaliser: Tensor,
    loss_gradient: Tensor,
    log_normaliser_gradient: Tensor,
) -> Tensor:
    """Gradient [M, V] of the scores, of their dtype."""
    mask = _mask(scores, sets).expand_as(scores) & log_normaliser.isfinite().unsqueeze(-1)
    target = targets.long().unsqueeze(-1)
    loss_gradient = torch.where(mask.gather(1, target).squeeze(-1), loss_gradient, 0.0)
    share = (loss_gradient + log_normaliser_gradient).unsqueeze(-1)
    gradient = (at_least_float32(scores) - log_normaliser.unsqueeze(-1)).exp() * share
    gradient = gradient.scatter_add(1, target, -loss_gradient.unsqueeze(-1))
    return torch.where(mask, gradient, 0.0).to(scores.dtype)


def projection_scores(hidden: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor) -> Tensor:
    """Scores [M, V], at least in fp32."""
    gathered = at_least_float32(hidden.index_select(0, rows))
    return linear(
        gathered, at_least_float32(weight), None if bias is None else at_least_float32(bias)
    )


def projection_gradients(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    targets: Tensor,
    sets: AllowedSets | None,
    upstream: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of hidden states, weight and bias; upstream as in `score_gradient`."""
    scores = projection_scores(hidden, weight, bias, rows)
    gradient = score_gradient(scores, targets, sets, *upstream)
    wide = at_least_float32(hidden)
    gathered = gradient @ at_least_float32(weight)
    found = (
        torch.zeros_like(wide).index_add_(0, rows, gathered),
        gradient.T @ wide.index_select(0, rows),
        gradient.sum(0),
    )
    return found[0].to(hidden.dtype), found[1].to(weight.dtype), found[2].to(weight.dtype)


def softmax_gradient(probabilities: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of the scores of a softmax; zero where the probability is."""
    wide = at_least_float32(probabilities)
    product = torch.where(wide > 0, wide * gradient, 0.0)
    return (product - wide * product.sum(-1, keepdim=True)).to(probabilities.dtype)


def _mask(scores: Tensor, sets: AllowedSets | None) -> Tensor:
    if sets is None:
        return torch.ones_like(scores, dtype=torch.bool)
    return sets.per_prediction(sets.unpack(scores.shape[1]))
