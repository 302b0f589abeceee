"""Log-probabilities of given ids from one dot product each; nothing of size [M, V]."""

# M predictions, K ids of each, V vocabulary, E hidden size

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqmlm_kernels.triton.projection_forward import Projection
from seqmlm_kernels.triton.vocabulary import contains, load_rows, load_set_offsets
from seqmlm_kernels.triton.waves import ceil_div

BLOCK_IDS = 16
BLOCK_HIDDEN = 128


@triton.jit(do_not_specialize=("num_predictions", "num_tokens", "num_sets", "num_ids"))
def token_score_kernel(
    hidden_ptr,
    weight_ptr,
    bias_ptr,
    rows_ptr,
    words_ptr,
    set_index_ptr,
    token_ids_ptr,
    log_normaliser_ptr,
    output_ptr,
    num_predictions,
    vocabulary_size,
    hidden_size,
    num_tokens,
    num_sets,
    num_words,
    num_ids,
    BLOCK_K: tl.constexpr,
    BLOCK_E: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SETS: tl.constexpr,
):
    """Log-probabilities of a block of ids of one prediction."""
    # One prediction, and its ids in a block; [BLOCK_K] vectors that all belong to it.
    columns = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    predictions = tl.zeros_like(columns) + tl.program_id(0)
    inside = columns < num_ids
    rows, is_row = load_rows(rows_ptr, predictions, num_predictions, num_tokens)
    set_offsets, is_set = load_set_offsets(
        set_index_ptr, predictions, num_predictions, num_sets, num_words, SETS
    )
    pointers = predictions.to(tl.int64) * num_ids + columns
    ids = tl.load(token_ids_ptr + pointers, mask=inside, other=-1)
    is_member = contains(words_ptr, set_offsets, ids, is_row & is_set, vocabulary_size, SETS)
    safe_ids = tl.where(is_member, ids, 0).to(tl.int64)
    scores = tl.zeros((BLOCK_K,), dtype=tl.float32)
    for start in range(0, hidden_size, BLOCK_E):
        units = start + tl.arange(0, BLOCK_E)
        exists = is_member[:, None] & (units < hidden_size)[None, :]
        hidden_pointers = hidden_ptr + (rows * hidden_size)[:, None] + units[None, :]
        weight_pointers = weight_ptr + (safe_ids * hidden_size)[:, None] + units[None, :]
        hidden = tl.load(hidden_pointers, mask=exists, other=0.0).to(tl.float32)
        weight = tl.load(weight_pointers, mask=exists, other=0.0).to(tl.float32)
        scores += tl.sum(hidden * weight, axis=1)
    if HAS_BIAS:
        scores += tl.load(bias_ptr + safe_ids, mask=is_member, other=0.0).to(tl.float32)
    log_normaliser = tl.load(log_normaliser_ptr + predictions)
    log_probabilities = tl.where(is_member, scores - log_normaliser, -float("inf"))
    tl.store(output_ptr + pointers, log_probabilities, mask=inside)


def token_scores(projection: Projection, token_ids: Tensor, log_normaliser: Tensor) -> Tensor:
    """Log-probabilities [M, K] in fp32 of ids [M, K]; M and K at least 1."""
    num_predictions, num_ids = token_ids.shape
    output = torch.empty((num_predictions, num_ids), dtype=torch.float32, device=token_ids.device)
    token_score_kernel[num_predictions, ceil_div(num_ids, BLOCK_IDS)](
        **projection.pointers(),
        **projection.sizes(),
        token_ids_ptr=token_ids.contiguous(),
        log_normaliser_ptr=log_normaliser,
        output_ptr=output,
        num_ids=num_ids,
        BLOCK_K=BLOCK_IDS,
        BLOCK_E=BLOCK_HIDDEN,
        HAS_BIAS=projection.bias is not None,
        SETS=projection.sets,
        num_warps=4,
    )
    return output
