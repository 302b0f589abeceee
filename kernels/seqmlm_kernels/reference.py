"""The definition of correct: dense, slow, as literal as possible, any floating dtype up to fp64.

Builds the L x L mask of every sequence and the [M, V] scores. Arguments arrive checked and
complete; what they mean is in the package's public functions.
"""

# T tokens, H query heads, K key-value heads, D head dimension, E hidden size, V vocabulary,
# M predictions, L tokens of one sequence

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from seqmlm_kernels.allowed import AllowedSets
from seqmlm_kernels.dispatch import AttentionBackward
from seqmlm_kernels.rejected_targets import count_rejected
from seqmlm_kernels.visibility import Visibility, pairs_within_window, visible_pairs


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    cu_seqlens: Tensor,
    max_seqlen: int,
    visibility: Visibility | None,
    positions: Tensor | None,
    window: int | None,
    scale: float,
    backward: AttentionBackward,
) -> Tensor:
    """One sequence at a time: softmax over the visible keys of the scaled dot products.

    The gradients are those of autograd, whichever ``backward`` is asked for.
    """
    heads_per_kv_head = q.shape[1] // k.shape[1]
    boundaries = cu_seqlens.tolist()
    outputs = []
    for start, stop in pairwise(boundaries):
        span = slice(start, stop)
        queries = _at_least_float32(q[span])
        keys = _at_least_float32(k[span]).repeat_interleave(heads_per_kv_head, dim=1)
        values = _at_least_float32(v[span]).repeat_interleave(heads_per_kv_head, dim=1)
        mask = torch.ones(stop - start, stop - start, dtype=torch.bool, device=q.device)
        if visibility is not None:
            step, reach, group = visibility.step, visibility.reach, visibility.group
            mask &= visible_pairs(step[span], reach[span], group[span])
        if window is not None:
            here = torch.arange(stop - start, device=q.device)
            mask &= pairs_within_window(here if positions is None else positions[span], window)
        scores = torch.einsum("ihd,jhd->hij", queries, keys) * scale
        weights = _softmax_where(scores, mask)
        outputs.append(torch.einsum("hij,jhd->ihd", weights, values))
    return torch.cat(outputs).to(q.dtype)


def masked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    targets: Tensor,
    allowed: AllowedSets | None,
) -> tuple[Tensor, Tensor]:
    """Log of the sum of exponentials over the allowed ids, less the target's score."""
    scores, mask = _scores(hidden, weight, bias, rows, allowed)
    anything = mask.any(-1)
    log_sum = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).logsumexp(-1)
    log_normaliser = torch.where(anything, log_sum, -torch.inf)
    target = targets.long().unsqueeze(-1)
    loss = log_sum - scores.gather(1, target).squeeze(-1)
    target_is_allowed = mask.gather(1, target).squeeze(-1)
    count_rejected(anything & ~target_is_allowed)
    return torch.where(target_is_allowed, loss, 0.0), log_normaliser


def masked_softmax(scores: Tensor, allowed: AllowedSets) -> Tensor:
    """Softmax over the allowed ids of each row."""
    mask = allowed.per_prediction(allowed.unpack(scores.shape[1]))
    return _softmax_where(_at_least_float32(scores), mask).to(scores.dtype)


def token_log_likelihood(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    token_ids: Tensor,
    allowed: AllowedSets | None,
) -> Tensor:
    """Log of the softmax over the allowed ids, at the given ids."""
    return _log_probabilities(hidden, weight, bias, rows, allowed).gather(1, token_ids.long())


def top_k(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    k: int,
    allowed: AllowedSets | None,
) -> tuple[Tensor, Tensor]:
    """First k of a stable sort of the whole vocabulary."""
    log_probabilities = _log_probabilities(hidden, weight, bias, rows, allowed)
    values, ids = log_probabilities.sort(dim=-1, descending=True, stable=True)
    return values[:, :k], ids[:, :k]


def rotary(q: Tensor, k: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate each pair (x[d], x[d + D / 2]) by its angle."""
    # The table repeats the cosine for both halves and carries the sign of the first half's sine.
    half = q.shape[-1] // 2
    cosine, sine = table[:, :, None, half:]
    rotated = []
    for x in (q, k):
        first, second = x[..., :half], x[..., half:]
        halves = (first * cosine - second * sine, second * cosine + first * sine)
        rotated.append(torch.cat(halves, dim=-1).to(x.dtype))
    return rotated[0], rotated[1]


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _softmax_where(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis where the mask allows, exactly zero elsewhere."""
    # The lowest finite number rather than -inf: a row without any allowed entry then stays
    # finite and is zeroed by the second fill, so that no NaN enters its gradient.
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return filled.softmax(-1).masked_fill(~mask, 0.0)


def _scores(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    allowed: AllowedSets | None,
) -> tuple[Tensor, Tensor]:
    """Scores [M, V] of every id, and which of them are allowed [M, V]."""
    chosen = _at_least_float32(hidden[rows.long()])
    scores = chosen @ _at_least_float32(weight).T
    if bias is not None:
        scores = scores + _at_least_float32(bias)
    if allowed is None:
        return scores, torch.ones_like(scores, dtype=torch.bool)
    mask = allowed.per_prediction(allowed.unpack(len(weight)))
    return scores, mask.expand_as(scores)


def _log_probabilities(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    allowed: AllowedSets | None,
) -> Tensor:
    with torch.no_grad():
        scores, mask = _scores(hidden, weight, bias, rows, allowed)
        filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        return filled.log_softmax(-1).masked_fill(~mask, -torch.inf)
