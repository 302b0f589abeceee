"""Cross-entropy, likelihoods and best ids over a projection, for the Triton backend."""

# M predictions, K ids of each, V vocabulary, E hidden size, R allowed sets

from __future__ import annotations

import functools
import logging

import torch
from torch import Tensor
from torch.nn.functional import linear

from seqmlm_kernels import torch_backend
from seqmlm_kernels.allowed import AllowedSets
from seqmlm_kernels.dispatch import TRITON_DTYPES, BackendUnavailableError
from seqmlm_kernels.triton.gathered_rows import gather_rows
from seqmlm_kernels.triton.projection_operators import (
    projected_cross_entropy,
    projected_log_likelihood,
    projected_top_k,
)
from seqmlm_kernels.triton.projection_plan import choose_regime
from seqmlm_kernels.triton.score_rows import cross_entropy_of_scores, softmax_of_scores
from seqmlm_kernels.triton.top_k import MAX_K

_logger = logging.getLogger("seqmlm_kernels")


def masked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    targets: Tensor,
    allowed: AllowedSets | None,
) -> tuple[Tensor, Tensor]:
    """Loss and log-normaliser [M] in fp32, in the regime that `choose_regime` names."""
    _check_dtype("hidden", hidden)
    words, set_index = _tensors(allowed)
    leaves = (hidden, weight) if bias is None else (hidden, weight, bias)
    keeps_scores = torch.is_grad_enabled() and any(x.requires_grad for x in leaves)
    regime = choose_regime(
        rows.shape[0], weight.shape[0], weight.dtype.itemsize, keeps_scores=keeps_scores
    )
    if regime == "materialised":
        scores = linear(gather_rows(hidden, rows), weight, bias)
        return cross_entropy_of_scores(scores, targets, words, set_index)
    return projected_cross_entropy(hidden, weight, bias, rows, targets, words, set_index)


def masked_softmax(scores: Tensor, allowed: AllowedSets) -> Tensor:
    """Probabilities [M, V] over the allowed ids of each row."""
    _check_dtype("scores", scores)
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
    """Log-probabilities in fp32 and ids in int64, [M, k]."""
    _check_dtype("hidden", hidden)
    if k > MAX_K:
        if not torch.compiler.is_compiling():  # a log record would break the graph
            _log_wide_top_k(k)
        return torch_backend.top_k(hidden, weight, bias, rows, k, allowed)
    return projected_top_k(hidden, weight, bias, rows, k, *_tensors(allowed))


def _tensors(allowed: AllowedSets | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if allowed is None else (allowed.words, allowed.index)


def _check_dtype(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in TRITON_DTYPES:
        raise BackendUnavailableError(
            f"backend='triton' cannot run: {name} is {tensor.dtype}; it computes in fp32 and takes "
            "torch.float32, torch.float16 and torch.bfloat16. Pass backend='torch'."
        )


@functools.cache
def _log_wide_top_k(k: int) -> None:
    _logger.warning(
        "top_k with k = %d runs on chunks of scores in torch: the kernel keeps at most %d ids of "
        "a prediction in registers",
        k,
        MAX_K,
    )
