"""Attention over packed sequences, masked softmax and rotary embeddings, on any device.

Every function takes ``backend``: "reference" (dense, slow, the definition of correct), "torch"
(fast PyTorch, any device), "triton" (GPU kernels), or "auto", which is triton on CUDA and torch
elsewhere and logs once, with its reason, when it falls back. A named backend runs the call or
raises `BackendUnavailableError`.

``SEQMLM_AUTOTUNE=1`` in the environment makes the attention kernels of "triton" choose their tiles
by time, once per kind of kernel and device; the choice is kept in ``~/.cache/seqmlm_kernels``, or
where ``SEQMLM_KERNEL_CACHE`` says.

Arguments are checked before anything is computed: wrong shapes, dtypes and devices everywhere;
values out of range on CPU tensors only, since reading them from a GPU would make the host wait.
Under ``torch.autocast`` floating inputs are cast as for a matrix product; log-probabilities,
losses and normalisers are never below fp32.
"""

from __future__ import annotations

from torch import Tensor

from seqmlm_kernels import checks, dispatch
from seqmlm_kernels.allowed import AllowedSets
from seqmlm_kernels.dispatch import BackendUnavailableError, available_backends
from seqmlm_kernels.rejected_targets import rejected_targets
from seqmlm_kernels.rotary_table import rotary_table
from seqmlm_kernels.visibility import Visibility

__all__ = [
    "BackendUnavailableError",
    "Visibility",
    "attention",
    "available_backends",
    "masked_cross_entropy",
    "masked_softmax",
    "rejected_targets",
    "rotary",
    "rotary_table",
    "token_log_likelihood",
    "top_k",
]


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    cu_seqlens: Tensor,
    max_seqlen: int,
    visibility: Visibility | None = None,
    positions: Tensor | None = None,
    window: int | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Softmax attention within each of the packed sequences; differentiable.

    Args:
        q: [T, H, D] floating, queries of all sequences one after the other.
        k: [T, Hkv, D], keys. H must be a multiple of Hkv; key-value head h serves the query
            heads h * H / Hkv and following (grouped-query attention).
        v: [T, Hkv, D], values.
        cu_seqlens: [B + 1] int32 or int64, where sequences start, then T. Sequences may be
            empty, and there may be none.
        max_seqlen: length of the longest sequence, or more.
        visibility: who may attend to whom within a sequence. None means that everyone sees
            everyone, and is faster than a `Visibility` that says the same.
        positions: [T] int32 or int64, what ``window`` measures; the index within the sequence
            when None. Not read without a window.
        window: a query sees keys at most this far away, both ways, and only if ``visibility``
            lets it. None: no limit.
        scale: factor of the dot products, 1 / sqrt(D) when None.
        backend: see the package.

    Returns:
        [T, H, D] of q's dtype (under autocast, of autocast's). A query that sees no key gets
        zeros, and contributes no gradient.

    Raises:
        TypeError, ValueError: an argument cannot be used; the message names it.
        BackendUnavailableError: the named backend cannot run this call.
    """
    checks.check_attention(
        q,
        k,
        v,
        cu_seqlens=cu_seqlens,
        max_seqlen=max_seqlen,
        visibility=visibility,
        positions=positions,
        window=window,
    )
    q, k, v = dispatch.in_autocast_dtype(q, k, v)
    if len(cu_seqlens) == 1:  # a rank may get no sequence of a small batch
        return q.clone()
    with dispatch.without_autocast(q.device):
        selected = dispatch.select_backend(
            backend, q.device, dtypes=(q.dtype,), head_dim=q.shape[-1]
        )
        return selected.attention(
            q,
            k,
            v,
            cu_seqlens=cu_seqlens,
            max_seqlen=max_seqlen,
            visibility=visibility,
            positions=positions,
            window=window,
            scale=q.shape[-1] ** -0.5 if scale is None else scale,
        )


def masked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    targets: Tensor,
    *,
    allowed: Tensor | None = None,
    allowed_index: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood, in nats, of target ids under a softmax over the allowed ids.

    The scores of prediction m are ``hidden[rows[m]] @ weight.T + bias``.

    Args:
        hidden: [T, E] floating.
        weight: [V, E], same dtype.
        bias: [V] of the same dtype, or None.
        rows: [M] int32 or int64 into T; may repeat, and M may be 0.
        targets: [M] int32 or int64 into V.
        allowed: [R, ceil(V / 32)] int32 bitsets; id i is bit ``i % 32`` of word ``i // 32`` (the
            sign bit is id 31 of its word). None: every id is allowed.
        allowed_index: [M] int32 or int64 into R, the set of each prediction. It may be None when
            R is 1.
        backend: see the package.

    Returns:
        loss: [M] float32 (float64 for float64 inputs), differentiable.
        log_normaliser: [M] like it, log of the sum of exponentials of the allowed scores,
            differentiable. A prediction whose set is empty has loss 0, log_normaliser -inf and
            no gradient.

    Raises:
        TypeError, ValueError: an argument cannot be used; the message names it. On the CPU this
            includes a target outside its allowed set; on a GPU such a target has loss 0 and no
            gradient, and `rejected_targets` counts it.
        BackendUnavailableError: the named backend cannot run this call.
    """
    checks.check_projection(hidden, weight, bias, rows=rows)
    checks.check_ids("targets", targets, rows=rows, vocabulary_size=len(weight))
    sets = _sets(allowed, allowed_index, rows, weight)
    if sets is not None:
        checks.check_targets_allowed(targets, sets, size=len(weight))
    hidden, weight, bias = _projection_in_autocast_dtype(hidden, weight, bias)
    with dispatch.without_autocast(hidden.device):
        selected = dispatch.select_backend(backend, hidden.device, dtypes=(hidden.dtype,))
        return selected.masked_cross_entropy(hidden, weight, bias, rows, targets, sets)


def masked_softmax(
    scores: Tensor,
    allowed: Tensor,
    *,
    allowed_index: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Probabilities over the allowed ids, exactly zero at all others.

    Args:
        scores: [M, V] floating.
        allowed: [R, ceil(V / 32)] int32 bitsets, as in `masked_cross_entropy`.
        allowed_index: [M] int32 or int64 into R. It may be None when R is 1.
        backend: see the package.

    Returns:
        [M, V] of the scores' dtype, differentiable. Value and gradient are exactly 0 where an id
        is not allowed; a row whose set is empty is all zeros.

    Raises:
        TypeError, ValueError: an argument cannot be used; the message names it.
        BackendUnavailableError: the named backend cannot run this call.
    """
    checks.check_scores(scores)
    sets = checks.checked_sets(
        allowed, allowed_index, predictions=len(scores), like=scores, size=scores.shape[1]
    )
    with dispatch.without_autocast(scores.device):
        selected = dispatch.select_backend(backend, scores.device, dtypes=(scores.dtype,))
        return selected.masked_softmax(scores, sets)


def token_log_likelihood(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    token_ids: Tensor,
    *,
    allowed: Tensor | None = None,
    allowed_index: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Log-probability, in nats, of given ids; for inference, no gradient flows through it.

    Args:
        hidden, weight, bias, rows: as in `masked_cross_entropy`.
        token_ids: [M] or [M, K] int32 or int64 into V.
        allowed, allowed_index: as in `masked_cross_entropy`.
        backend: see the package.

    Returns:
        Shaped like ``token_ids``, float32 (float64 for float64 inputs); -inf for an id that is
        not allowed.

    Raises:
        TypeError, ValueError: an argument cannot be used; the message names it.
        BackendUnavailableError: the named backend cannot run this call.
    """
    checks.check_projection(hidden, weight, bias, rows=rows)
    checks.check_ids("token_ids", token_ids, rows=rows, vocabulary_size=len(weight))
    sets = _sets(allowed, allowed_index, rows, weight)
    hidden, weight, bias = _projection_in_autocast_dtype(hidden, weight, bias)
    with dispatch.without_autocast(hidden.device):
        selected = dispatch.select_backend(backend, hidden.device, dtypes=(hidden.dtype,))
        ids = token_ids if token_ids.ndim == 2 else token_ids.unsqueeze(1)
        found = selected.token_log_likelihood(hidden, weight, bias, rows, ids, sets)
        return found.view(token_ids.shape)


def top_k(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    k: int,
    *,
    allowed: Tensor | None = None,
    allowed_index: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """The k most probable allowed ids, best first; for inference, no gradient flows.

    Args:
        hidden, weight, bias, rows: as in `masked_cross_entropy`.
        k: how many, from 1 to V.
        allowed, allowed_index: as in `masked_cross_entropy`.
        backend: see the package.

    Returns:
        log_probabilities: [M, k] float32 (float64 for float64 inputs), in nats, not increasing.
            Where fewer than k ids are allowed the rest are -inf.
        ids: [M, k] int64. Of equal log-probabilities the lowest id comes first; ids whose
            log-probability is -inf are not allowed ones and mean nothing.

    Raises:
        TypeError, ValueError: an argument cannot be used; the message names it.
        BackendUnavailableError: the named backend cannot run this call.
    """
    checks.check_projection(hidden, weight, bias, rows=rows)
    if not 1 <= k <= len(weight):
        raise ValueError(f"k is {k}; it must be from 1 to the {len(weight)} ids of weight.")
    sets = _sets(allowed, allowed_index, rows, weight)
    hidden, weight, bias = _projection_in_autocast_dtype(hidden, weight, bias)
    with dispatch.without_autocast(hidden.device):
        selected = dispatch.select_backend(backend, hidden.device, dtypes=(hidden.dtype,))
        return selected.top_k(hidden, weight, bias, rows, k, sets)


def rotary(
    q: Tensor,
    k: Tensor,
    positions: Tensor,
    *,
    base: float = 10000.0,
    table: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Queries and keys rotated by their positions; differentiable.

    The pair (x[d], x[d + D / 2]) turns by ``position * base ** (-2 d / D)`` radians: the
    half-split form of ESM-2 and GPT-NeoX, not the interleaved one of the paper (Su et al. 2021,
    arXiv 2104.09864). Dot products then depend on the difference of positions alone.

    Args:
        q: [T, H, D] floating, D even.
        k: [T, Hkv, D].
        positions: [T] int32 or int64, position of each token in its sequence.
        base: as in `rotary_table`.
        table: ``rotary_table(positions, D, base=base)`` when it is at hand, so that the layers
            of an encoder share one; ``positions`` and ``base`` are then not read.
        backend: see the package.

    Returns:
        q and k rotated, each of its own dtype. Angles and products are computed in fp32 or
        better.

    Raises:
        TypeError, ValueError: an argument cannot be used; the message names it.
        BackendUnavailableError: the named backend cannot run this call.
    """
    checks.check_rotary(q, k, positions)
    if table is None:
        table = rotary_table(positions, q.shape[-1], base=base)
    else:
        checks.check_rotary_table(q, table)
    selected = dispatch.select_backend(backend, q.device, dtypes=(q.dtype, k.dtype))
    return selected.rotary(q, k, table)


def _sets(
    allowed: Tensor | None, allowed_index: Tensor | None, rows: Tensor, weight: Tensor
) -> AllowedSets | None:
    if allowed is not None:
        return checks.checked_sets(
            allowed, allowed_index, predictions=len(rows), like=weight, size=len(weight)
        )
    if allowed_index is not None:
        raise ValueError("allowed_index was given without allowed, the sets that it points into.")
    return None


def _projection_in_autocast_dtype(
    hidden: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    if bias is None:
        hidden, weight = dispatch.in_autocast_dtype(hidden, weight)
        return hidden, weight, None
    hidden, weight, bias = dispatch.in_autocast_dtype(hidden, weight, bias)
    return hidden, weight, bias
