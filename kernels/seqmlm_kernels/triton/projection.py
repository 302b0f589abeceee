"""Cross-entropy, likelihoods and best ids over a projection, for the Triton backend."""

# M predictions, K ids of each, V vocabulary, E hidden size, R allowed sets

from __future__ import annotations

import torch
from torch import Tensor

from seqmlm_kernels.allowed import AllowedSets
from seqmlm_kernels.dispatch import TRITON_DTYPES, BackendUnavailableError
from seqmlm_kernels.rejected_targets import rejected_targets
from seqmlm_kernels.triton.forward_mode import refuse_tangents
from seqmlm_kernels.triton.projection_operators import (
    projected_cross_entropy,
    projected_log_likelihood,
    projected_top_k,
)
from seqmlm_kernels.triton.projection_plan import scores_are_kept
from seqmlm_kernels.triton.score_rows import softmax_of_scores


def masked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    targets: Tensor,
    allowed: AllowedSets | None,
) -> tuple[Tensor, Tensor]:
    """Loss and log-normaliser [M] in fp32; see `projection_plan` for what is kept meanwhile."""
    _check_dtype("hidden", hidden)
    refuse_tangents(hidden=hidden, weight=weight, bias=bias)
    words, set_index = _tensors(allowed)
    leaves = (hidden, weight) if bias is None else (hidden, weight, bias)
    has_backward = torch.is_grad_enabled() and any(x.requires_grad for x in leaves)
    keep_scores = has_backward and scores_are_kept(rows.shape[0], weight.shape[0])
    # The operator adds to the counter, which must be there before torch.compile captures a graph.
    rejected_targets(hidden.device)
    loss, log_normaliser, _ = projected_cross_entropy(
        hidden, weight, bias, rows, targets, words, set_index, keep_scores
    )
    return loss, log_normaliser


def masked_softmax(scores: Tensor, allowed: AllowedSets) -> Tensor:
    """Probabilities [M, V] over the allowed ids of each row."""
    _check_dtype("scores", scores)
    refuse_tangents(scores=scores)
    return softmax_of_scores(scores, allowed.words, allowed.index)


@torch.no_grad()
def token_log_likelihood(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    token_ids: Tensor,
    allowed: AllowedSets | None,
) -> Tensor:
    """Log-probabilities [M, K] in fp32."""
    _check_dtype("hidden", hidden)
    return projected_log_likelihood(hidden, weight, bias, rows, token_ids, *_tensors(allowed))


@torch.no_grad()
def top_k(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    k: int,
    allowed: AllowedSets | None,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities in fp32 and ids in int64, [M, k]; `top_k.MAX_K` of them a pass."""
    _check_dtype("hidden", hidden)
    return projected_top_k(hidden, weight, bias, rows, k, *_tensors(allowed))


def _tensors(allowed: AllowedSets | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if allowed is None else (allowed.words, allowed.index)


def _check_dtype(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in TRITON_DTYPES:
        raise BackendUnavailableError(
            f"backend='triton' cannot run: {name} is {tensor.dtype}; it computes in fp32 and takes "
            "torch.float32, torch.float16 and torch.bfloat16. Pass backend='torch'."
        )
