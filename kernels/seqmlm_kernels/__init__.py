"""Attention over packed sequences, masked softmax and rotary embeddings, on any device.

Every function takes ``backend``: "reference" (dense, slow, the definition of correct), "torch"
(fast PyTorch, any device), "triton" (GPU kernels), or "auto". A named backend runs the call or
raises `BackendUnavailableError`. "auto" is triton on the GPUs of `dispatch.PROVEN_CAPABILITIES`,
on which the kernels were found correct (none so far), and torch everywhere else; on a CUDA device
it logs once why it is torch. To run the kernels on a GPU that is not in the list, name "triton".

The layers of one pass share what `attention_layout` returns, for which "triton" prepares its
tables once; no call without it reuses anything of another call.

``SEQMLM_AUTOTUNE=1`` in the environment makes the kernels of "triton" for attention and for
projections onto a vocabulary choose their tiles by time, once per kind of kernel and device; the
choice is kept in ``~/.cache/seqmlm_kernels``, or where ``SEQMLM_KERNEL_CACHE`` says.

Arguments are checked before anything is computed: wrong types, shapes, dtypes and devices
everywhere; values on CPU tensors only, since reading them from a GPU would make the host wait.
There, the attention of "triton" stops the device with an assertion where boundaries of sequences
fall or pass T or int32 does not do for positions within a window, and gives zeros for tokens
outside of all sequences; predictions of rows, ids and sets that do not exist are counted, by
`rejected_targets`. Anything else out of range gives results that mean nothing.
``SEQMLM_CHECK=1`` in the environment reads values on every device, and makes every call wait: for
finding a mistake, not for training. Within torch.compile and the capture of a CUDA graph there is
nothing to read, on the CPU neither, so run once without.
Under ``torch.autocast`` the operands of attention and of projections are cast as for a matrix
product; `masked_softmax` and `rotary` keep the dtypes that they are given. Log-probabilities,
losses and normalisers are never below fp32.

The kernels of "triton" have first derivatives in reverse mode; an operand with a tangent, as
`torch.func.jvp` makes them, is an error there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from seqmlm_kernels import checks, dispatch
from seqmlm_kernels.allowed import AllowedSets, range_or_sets
from seqmlm_kernels.attention_layout import AttentionLayout, attention_layout
from seqmlm_kernels.dispatch import (
    AttentionBackward,
    BackendUnavailableError,
    available_backends,
)
from seqmlm_kernels.rejected_targets import count_rejected, rejected_targets
from seqmlm_kernels.rotary_table import rotary_table
from seqmlm_kernels.visibility import Visibility

__all__ = [
    "AttentionBackward",
    "AttentionLayout",
    "BackendUnavailableError",
    "Visibility",
    "attention",
    "attention_layout",
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
    backward: AttentionBackward = "deterministic",
    backend: str = "auto",
) -> Tensor:
    """Softmax attention within each of the packed sequences; differentiable.

    Args:
        q: [T, H, D] floating, queries of all sequences one after the other.
        k: [T, Hkv, D], keys. H must be a multiple of Hkv; key-value head h serves the query
            heads h * H / Hkv and following (grouped-query attention).
        v: [T, Hkv, D], values.
        cu_seqlens: [B + 1] int32 or int64, where sequences start, then T; must not fall.
            Sequences may be empty, and where T is 0 there may be none. Values are not checked on
            a GPU; see the package.
        max_seqlen: length of the longest sequence, or more.
        visibility: who may attend to whom within a sequence. None means that everyone sees
            everyone, and is faster than a `Visibility` that says the same.
        positions: [T] int32 or int64, what ``window`` measures; the index within the sequence
            when None. They must fit in int32 and lie less than 2**31 apart, which is not checked
            on a GPU; see the package. Not read without a window.
        window: a query sees keys at most this far away, both ways, and only if ``visibility``
            lets it. None: no limit.
        scale: factor of the dot products, 1 / sqrt(D) when None.
        backward: of "triton": "deterministic" gradients are bit-equal from run to run, by two
            kernels of seven matrix products in all; "atomic" ones by a single kernel of five,
            which adds the gradients of q in an order that changes, so that their last bits do,
            and takes 4 bytes for each of q's numbers meanwhile. "reference" and "torch" take
            either and compute the same.
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
        scale=scale,
        backward=backward,
    )
    q, k, v = dispatch.in_autocast_dtype(q, k, v)
    if len(cu_seqlens) == 1:  # a rank may get no sequence of a small batch: one that is empty
        cu_seqlens = cu_seqlens.new_zeros(2)
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
            backward=backward,
        )


def masked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    targets: Tensor,
    *,
    allowed: Tensor | tuple[int, int] | None = None,
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
            sign bit is id 31 of its word). Or (first, stop): every prediction may take the ids of
            that range, and nothing else of the projection is read; none where both are alike, as
            with a bitset of zeros. None: every id is allowed.
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
            includes a target outside its allowed set; on a GPU, and anywhere within
            torch.compile, such a target has loss 0 and no gradient, and `rejected_targets`
            counts it.
        BackendUnavailableError: the named backend cannot run this call.
    """
    checks.check_projection(hidden, weight, bias, rows=rows)
    checks.check_ids("targets", targets, rows=rows, vocabulary_size=len(weight))
    ids, allowed = range_or_sets(allowed, allowed_index, weight)
    if ids is not None:
        places, inside = ids.places(targets)
        checks.check_targets_inside(targets, inside, ids)
        loss, log_normaliser = masked_cross_entropy(
            hidden, *ids.columns(weight, bias), rows, places, backend=backend
        )
        count_rejected(~inside)
        return torch.where(inside, loss, 0.0), log_normaliser
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
    if isinstance(allowed, tuple):
        raise TypeError(
            f"allowed is {allowed!r}; masked_softmax takes bitsets alone, a torch.Tensor. For the "
            "ids of a range use scores[:, first:stop].softmax(-1)."
        )
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
    allowed: Tensor | tuple[int, int] | None = None,
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
    in_range, allowed = range_or_sets(allowed, allowed_index, weight)
    if in_range is not None:
        places, inside = in_range.places(token_ids)
        likelihoods = token_log_likelihood(
            hidden, *in_range.columns(weight, bias), rows, places, backend=backend
        )
        return likelihoods.masked_fill(~inside, -torch.inf)
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
    allowed: Tensor | tuple[int, int] | None = None,
    allowed_index: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """The k most probable allowed ids, best first; for inference, no gradient flows.

    Args:
        hidden, weight, bias, rows: as in `masked_cross_entropy`.
        k: how many, from 1 to V. "triton" finds 64 of them in a pass over the vocabulary.
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
    checks.check_k(k, len(weight))
    in_range, allowed = range_or_sets(allowed, allowed_index, weight)
    if in_range is not None:
        columns, room = in_range.columns(weight, bias), in_range.stop - in_range.first
        values, places = top_k(hidden, *columns, rows, min(k, room), backend=backend)
        absent = (0, max(0, k - room))
        return pad(values, absent, value=-torch.inf), pad(places + in_range.first, absent)
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
