"""Attention's operators on a CPU where Triton does not interpret: value and gradients in torch.

A graph that was traced on a GPU can then run on a CPU. Gradients are written out because autograd
does not record within an operator.
"""

# T tokens, H query heads, Hkv key-value heads, D head dimension, Lq queries of a chunk, L tokens
# of its sequence

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from seqmlm_kernels.triton.closed_form import at_least_float32
from seqmlm_kernels.visibility import Visibility, pairs_within_window, visible_pairs

# Scores that are held at a time, 64 MiB in fp32.
_SCORES_PER_CHUNK = 1 << 24


def output_and_log_sum(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    visibility: Visibility | None,
    positions: Tensor | None,
    window: int | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Output [T, H, D], and log2 of the sum of exponentials of the scores [H, T] fp32."""
    output = torch.zeros_like(q, memory_format=torch.contiguous_format)
    log_sum = q.new_full((q.shape[1], q.shape[0]), -torch.inf, dtype=torch.float32)
    for queries, keys, visible in _chunks(q, cu_seqlens, visibility, positions, window):
        scores = _products(q[queries], _shared(k[keys], q)) * scale
        scores = scores.masked_fill(~visible, -torch.inf)
        chunk_sum = scores.logsumexp(-1)
        weights = _weights(scores, chunk_sum, visible)
        values = torch.einsum("hqk,khd->qhd", weights, at_least_float32(_shared(v[keys], q)))
        output[queries] = values.to(q.dtype)
        log_sum[:, queries] = (chunk_sum / math.log(2)).float()
    return output, log_sum


def gradients(
    output_gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    log_sum: Tensor,
    cu_seqlens: Tensor,
    visibility: Visibility | None,
    positions: Tensor | None,
    window: int | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q [T, H, D], k and v [T, Hkv, D]."""
    upstream = at_least_float32(output_gradient)
    delta = (upstream * output).sum(-1).T
    q_gradient = torch.zeros_like(upstream)
    k_gradient, v_gradient = (torch.zeros(k.shape, dtype=upstream.dtype) for _ in range(2))
    for queries, keys, visible in _chunks(q, cu_seqlens, visibility, positions, window):
        shared = _shared(k[keys], q)
        scores = _products(q[queries], shared) * scale
        weights = _weights(scores, log_sum[:, queries] * math.log(2), visible)
        weight_gradient = _products(upstream[queries], _shared(v[keys], q))
        score_gradient = weights * (weight_gradient - delta[:, queries, None]) * scale
        q_gradient[queries] = torch.einsum("hqk,khd->qhd", score_gradient, at_least_float32(shared))
        for gradient, factor, operand in (
            (k_gradient, score_gradient, at_least_float32(q[queries])),
            (v_gradient, weights, upstream[queries]),
        ):
            per_head = torch.einsum("hqk,qhd->khd", factor, operand)
            gradient[keys] += per_head.unflatten(1, (k.shape[1], -1)).sum(2)
    return q_gradient.to(q.dtype), k_gradient.to(k.dtype), v_gradient.to(v.dtype)


def _chunks(
    q: Tensor,
    cu_seqlens: Tensor,
    visibility: Visibility | None,
    positions: Tensor | None,
    window: int | None,
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Some queries, the tokens of their sequence, and who of them sees whom, [Lq, L] bool."""
    for start, stop in pairwise(cu_seqlens.tolist()):
        length, keys = stop - start, slice(start, stop)
        step = max(1, _SCORES_PER_CHUNK // max(1, length * q.shape[1]))
        for first in range(0, length, step):
            chosen = slice(first, min(first + step, length))
            visible = torch.ones(chosen.stop - first, length, dtype=torch.bool)
            if visibility is not None:
                fields = (visibility.step, visibility.reach, visibility.group)
                visible &= visible_pairs(*(field[keys] for field in fields), queries=chosen)
            if window is not None:
                where = torch.arange(length) if positions is None else positions[keys]
                visible &= pairs_within_window(where, window, queries=chosen)
            yield slice(start + first, start + chosen.stop), keys, visible


def _shared(x: Tensor, q: Tensor) -> Tensor:
    """Keys or values [L, Hkv, D], repeated for the query heads that share them."""
    return x.repeat_interleave(q.shape[1] // x.shape[1], dim=1)


def _products(queries: Tensor, keys: Tensor) -> Tensor:
    """Dot products [H, Lq, L] of [Lq, H, D] and [L, H, D], at least in fp32."""
    return torch.einsum("qhd,khd->hqk", at_least_float32(queries), at_least_float32(keys))


def _weights(scores: Tensor, log_sum: Tensor, visible: Tensor) -> Tensor:
    """Exactly zero where nothing is seen, though the log-sum-exp of such a query is -inf."""
    return (scores - log_sum.unsqueeze(-1)).exp().masked_fill(~visible, 0.0)
