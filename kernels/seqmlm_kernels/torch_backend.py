"""Fast PyTorch on any device, without padding; what a user without a GPU trains with.

Attention sorts sequences of equal length next to each other and gives each such run to
``scaled_dot_product_attention`` as one batch: nothing is padded, so no mask is needed.
Forward + backward, milliseconds, H = 4, D = 32, fp32, torch 2.13, AMD EPYC (Zen 5), one thread:

=============================  =====  ============  ================  ===============
rows x tokens of a row         runs   one call/row  padded, fill 0.7  padded, one batch
=============================  =====  ============  ================  ===============
16 x 100..1024                 147    164           271               412
24 x 250..350                  66     63            80                81
80 x 20..128                   23     26            33                47
500 x 8                        10     50            10                10
500 x 3..16, sorted            11     53            14                20
500 x 3..16, shuffled          13     52            47                15
=============================  =====  ============  ================  ===============

A visibility or a window needs a mask on this backend, made for some queries of a long sequence at a
time, and takes 15 to 45 % more time than neither: a window saves nothing here. Memory grows with L,
not with its square. The lengths are read on the host, which synchronises a GPU.

Cross-entropy is one matrix product and one ``log_softmax``. On the same machine a backward of its
own was not worth having: recomputing the scores in chunks took 493 instead of 449 ms at M = 600,
V = 30000 and 0.9 instead of 0.7 ms at M = 1200, V = 33; keeping probabilities instead of scores
took 363 ms at V = 30000 and gained nothing at 33, 4000 and 8000.
"""

# T tokens, H query heads, D head dimension, E hidden size, V vocabulary, M predictions,
# N sequences of one run, L tokens of each of them

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from seqmlm_kernels.allowed import AllowedSets
from seqmlm_kernels.dispatch import AttentionBackward
from seqmlm_kernels.linear import linear
from seqmlm_kernels.rejected_targets import count_rejected
from seqmlm_kernels.visibility import (
    Visibility,
    pairs_within_window,
    sequence_positions,
    visible_pairs,
)

# Scores that inference holds at a time, 64 MiB in fp32.
_SCORES_PER_CHUNK = 1 << 24
# Pairs of a query and a key whose mask is held at a time: about 200 MiB with what makes it.
_PAIRS_PER_CHUNK = 1 << 24


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
    """One batched call per run of equal lengths; see the module for what was measured.

    The gradients are those of autograd, whichever ``backward`` is asked for.
    """
    lengths = cu_seqlens.diff().tolist()
    if window is not None and positions is None:
        # Only differences within a sequence are read, so the packed index will do.
        positions = torch.arange(len(q), device=q.device)
    pairs = _Pairs(visibility, positions if window is not None else None, window)
    runs = _equal_runs(lengths)
    if len(runs) == len(set(lengths)):
        return _attend(q, k, v, runs, pairs, scale)
    order = _tokens_by_sequence_length(cu_seqlens)
    q, k, v = (x.index_select(0, order) for x in (q, k, v))
    output = _attend(q, k, v, _equal_runs(sorted(lengths)), pairs.take(order), scale)
    return output.index_select(0, order.argsort())


def masked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    targets: Tensor,
    allowed: AllowedSets | None,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy from ``log_softmax``, whose result gives the normaliser as well."""
    targets = targets.long()
    if allowed is None:
        return _cross_entropy(_scores(hidden, weight, bias, rows), targets)
    losses, log_normalisers, order = [], [], []
    for predictions, ids in _by_set(allowed, len(weight), len(rows)):
        place, is_allowed = _places(ids, targets[predictions])
        if len(ids):
            scores = _scores(hidden, *_columns(weight, bias, ids), rows[predictions])
            loss, log_normaliser = _cross_entropy(scores, place)
            count_rejected(~is_allowed)
        else:
            # No scores sum to 0, which has a gradient: none to anything.
            loss = _scores(hidden, weight, bias, rows[predictions])[:, :0].sum(-1)
            log_normaliser = loss - torch.inf
        losses.append(torch.where(is_allowed, loss, 0.0))
        log_normalisers.append(log_normaliser)
        order.append(predictions)
    inverse = torch.cat(order).argsort()
    return torch.cat(losses)[inverse], torch.cat(log_normalisers)[inverse]


def masked_softmax(scores: Tensor, allowed: AllowedSets) -> Tensor:
    """Softmax over the allowed ids of each row."""
    mask = allowed.per_prediction(allowed.unpack(scores.shape[1]))
    return _lowest_where_not(mask, scores).softmax(-1).masked_fill(~mask, 0.0)


@torch.no_grad()
def token_log_likelihood(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    token_ids: Tensor,
    allowed: AllowedSets | None,
) -> Tensor:
    """Log-probabilities of a chunk of predictions at a time, gathered at the given ids."""
    token_ids = token_ids.long()
    if allowed is None:
        chunks = _log_probability_chunks(hidden, weight, bias, rows, None)
        return torch.cat([values.gather(1, token_ids[chunk]) for chunk, values in chunks])
    found, order = [], []
    for predictions, ids in _by_set(allowed, len(weight), len(rows)):
        order.append(predictions)
        place, is_allowed = _places(ids, token_ids[predictions])
        if not len(ids):
            found.append(torch.full_like(place, -torch.inf, dtype=_at_least_float32(weight.dtype)))
            continue
        columns = _columns(weight, bias, ids)
        for chunk, values in _log_probability_chunks(hidden, *columns, rows[predictions], None):
            likelihoods = values.gather(1, place[chunk])
            found.append(likelihoods.masked_fill(~is_allowed[chunk], -torch.inf))
    return torch.cat(found)[torch.cat(order).argsort()]


@torch.no_grad()
def top_k(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    k: int,
    allowed: AllowedSets | None,
) -> tuple[Tensor, Tensor]:
    """Best k of a chunk of predictions at a time."""
    chunks = _log_probability_chunks(hidden, weight, bias, rows, allowed)
    best = [_best_by_lowest_id(values, k) for _, values in chunks]
    return torch.cat([values for values, _ in best]), torch.cat([ids for _, ids in best])


def rotary(q: Tensor, k: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate by one roll and two products; the sign is in the table."""
    half = q.shape[-1] // 2
    cos, sin = table.unsqueeze(2)
    rotated_q = (q * cos + q.roll(half, dims=-1) * sin).to(q.dtype)
    rotated_k = (k * cos + k.roll(half, dims=-1) * sin).to(k.dtype)
    return rotated_q, rotated_k


@dataclass(frozen=True, eq=False)
class _Pairs:
    """What restricts the pairs of queries and keys; positions are there iff a window is."""

    visibility: Visibility | None
    positions: Tensor | None
    window: int | None

    def take(self, order: Tensor) -> _Pairs:
        """The same for the tokens in another order."""
        visibility, positions = self.visibility, self.positions
        if visibility is not None:
            visibility = Visibility(
                step=visibility.step[order],
                reach=visibility.reach[order],
                group=visibility.group[order],
            )
        return _Pairs(visibility, None if positions is None else positions[order], self.window)

    def query_chunks(self, count: int, length: int) -> list[slice]:
        """The queries to take at once, so that the mask of a long sequence stays bounded."""
        if self.visibility is None and self.positions is None:
            return [slice(0, length)]
        size = max(1, _PAIRS_PER_CHUNK // max(1, count * length))
        return [slice(first, first + size) for first in range(0, max(1, length), size)]

    def mask(self, start: int, count: int, length: int, queries: slice) -> Tensor | None:
        """[N, Lq, L] bool for ``count`` sequences of ``length`` from ``start``; None: all pairs."""

        def batch(values: Tensor) -> Tensor:
            return values[start : start + count * length].view(count, length)

        mask = None
        if self.visibility is not None:
            step, reach, group = self.visibility.step, self.visibility.reach, self.visibility.group
            mask = visible_pairs(batch(step), batch(reach), batch(group), queries=queries)
        if self.positions is not None and self.window is not None:
            near = pairs_within_window(batch(self.positions), self.window, queries=queries)
            mask = near if mask is None else mask & near
        return mask


def _equal_runs(lengths: list[int]) -> list[tuple[int, int]]:
    """(count, length) of each run of neighbouring sequences of equal length."""
    return [(sum(1 for _ in run), length) for length, run in groupby(lengths)]


def _tokens_by_sequence_length(cu_seqlens: Tensor) -> Tensor:
    """Order of the packed tokens that puts shorter sequences first: [T] int64."""
    lengths = cu_seqlens.diff()
    by_length = lengths.argsort(stable=True)
    starts = cu_seqlens[:-1].long()[by_length].repeat_interleave(lengths[by_length])
    sorted_boundaries = torch.nn.functional.pad(lengths[by_length].cumsum(0), (1, 0))
    return starts + sequence_positions(sorted_boundaries)


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    runs: list[tuple[int, int]],
    pairs: _Pairs,
    scale: float,
) -> Tensor:
    sizes = [count * length for count, length in runs]
    outputs = []
    start = 0
    # split, not slices: its backward is one concatenation instead of a full-size zero per run.
    for (count, length), *run in zip(
        runs, *(torch.split(x, sizes) for x in (q, k, v)), strict=True
    ):
        queries, keys, values = (x.view(count, length, *x.shape[1:]).transpose(1, 2) for x in run)
        parts = [
            _softmax_attention(
                queries[:, :, chunk], keys, values, pairs.mask(start, count, length, chunk), scale
            )
            for chunk in pairs.query_chunks(count, length)
        ]
        outputs.append(_joined(parts, dim=2).transpose(1, 2).flatten(0, 1))
        start += count * length
    return _joined(outputs)


def _joined(parts: list[Tensor], dim: int = 0) -> Tensor:
    """Concatenated; of a single part, that part without a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)


def _softmax_attention(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """[N, H, Lq, D] attention under an [N, Lq, L] mask; a query that sees nothing gets zeros."""
    grouped = queries.shape[1] != keys.shape[1]
    if mask is None:
        return scaled_dot_product_attention(queries, keys, values, scale=scale, enable_gqa=grouped)
    mask = mask.unsqueeze(1)
    # What SDPA returns for a query without keys depends on the device's kernel: it is given all
    # of them and its output is then dropped, which also makes its gradients zero.
    sees_something = mask.any(-1, keepdim=True)
    output = scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=mask | ~sees_something,
        scale=scale,
        enable_gqa=grouped,
    )
    return torch.where(sees_something, output, 0.0)


def _by_set(
    allowed: AllowedSets, vocabulary_size: int, predictions: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Predictions that use each set, and its ids, increasing; at least one set, maybe unused."""
    membership = allowed.unpack(vocabulary_size)
    index = allowed.index
    if index is None:
        index = torch.zeros(predictions, dtype=torch.int32, device=membership.device)
    for number in torch.unique(index).tolist() or [0]:
        yield (index == number).nonzero()[:, 0], membership[number].nonzero()[:, 0]


def _columns(weight: Tensor, bias: Tensor | None, ids: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of increasing ids, without a copy where they are a range."""
    if len(ids) and int(ids[-1] - ids[0]) == len(ids) - 1:
        chosen = slice(int(ids[0]), int(ids[-1]) + 1)
        return weight[chosen], None if bias is None else bias[chosen]
    return weight[ids], None if bias is None else bias[ids]


def _places(ids: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Where wanted ids are among increasing ones, anywhere for those that are not; if they are."""
    if not len(ids):
        return torch.zeros_like(wanted), torch.zeros_like(wanted, dtype=torch.bool)
    place = torch.searchsorted(ids, wanted.contiguous()).clamp(max=len(ids) - 1)
    return place, ids[place] == wanted


def _cross_entropy(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and log-normaliser [M] of targets among all the scores [M, V]."""
    log_probability, score = _at(scores.log_softmax(-1), targets), _at(scores, targets)
    return -log_probability, score - log_probability


def _scores(hidden: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor) -> Tensor:
    """Scores [M, V] of every id, at least in fp32."""
    scores = linear(hidden.index_select(0, rows), weight, bias)
    return scores.to(_at_least_float32(scores.dtype))


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _lowest_where_not(mask: Tensor, scores: Tensor) -> Tensor:
    """Scores that take no part in a softmax, yet leave it finite where nothing is allowed."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)


def _at(values: Tensor, ids: Tensor) -> Tensor:
    return values.gather(1, ids.unsqueeze(-1)).squeeze(-1)


def _log_probability_chunks(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    allowed: AllowedSets | None,
) -> Iterator[tuple[slice, Tensor]]:
    """Log-probabilities [m, V] of consecutive predictions; at least one chunk, maybe empty."""
    membership = None if allowed is None else allowed.unpack(len(weight))
    chunk_size = max(1, _SCORES_PER_CHUNK // len(weight))
    for start in range(0, max(1, len(rows)), chunk_size):
        chunk = slice(start, start + chunk_size)
        scores = _scores(hidden, weight, bias, rows[chunk])
        if allowed is None or membership is None:
            yield chunk, scores.log_softmax(-1)
            continue
        index = None if allowed.index is None else allowed.index[chunk]
        mask = AllowedSets(allowed.words, index).per_prediction(membership)
        log_probabilities = _lowest_where_not(mask, scores).log_softmax(-1)
        yield chunk, log_probabilities.masked_fill(~mask, -torch.inf)


def _best_by_lowest_id(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest values of each row and their ids; of equal values the lowest ids."""
    # torch.topk picks any of several equal values, so it only gives the threshold here. Written
    # with "not lower" so that a row of NaN still selects k ids.
    threshold = values.topk(k).values[:, -1:]
    higher = values > threshold
    equal = ~(values < threshold) & ~higher
    room = k - higher.sum(-1, keepdim=True)
    chosen = higher | (equal & (equal.cumsum(-1) <= room))
    ids = chosen.nonzero()[:, 1].view(len(values), k)
    best, order = values.gather(1, ids).sort(dim=-1, descending=True, stable=True)
    return best, ids.gather(1, order)
