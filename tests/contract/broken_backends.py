"""Backends that break one promise each, made of the torch backend; what must catch them is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from seqmlm_kernels import reference, torch_backend
from seqmlm_kernels.rejected_targets import rejected_targets

FUNCTIONS = (
    "attention",
    "masked_cross_entropy",
    "masked_softmax",
    "token_log_likelihood",
    "top_k",
    "rotary",
)


@dataclass(frozen=True)
class Broken:
    """One function that is wrong, and the check and the words that say so."""

    name: str
    function: str
    wrong: Callable[..., Any]
    check: str
    message: str

    def backend(self) -> Any:
        """The torch backend with that function instead of its own."""
        whole = {name: getattr(torch_backend, name) for name in FUNCTIONS}
        return SimpleNamespace(**(whole | {self.function: self.wrong}))


_attend = torch_backend.attention
_loss = torch_backend.masked_cross_entropy
_softmax = torch_backend.masked_softmax
_likelihood = torch_backend.token_log_likelihood
_best = torch_backend.top_k
_rotate = torch_backend.rotary


def attention_where(wrong: Callable[..., bool]) -> Callable[..., Tensor]:
    """Attention of zeros where the call is one that the backend gets wrong."""

    def attention(q: Tensor, k: Tensor, v: Tensor, **call: Any) -> Tensor:
        output = _attend(q, k, v, **call)
        return output * 0.0 if wrong(q, k, v, **call) else output

    return attention


def attention_as_if_contiguous(q: Tensor, k: Tensor, v: Tensor, **call: Any) -> Tensor:
    def misread(x: Tensor) -> Tensor:
        return x.as_strided(x.shape, (x.shape[1] * x.shape[2], x.shape[2], 1))

    return _attend(misread(q), misread(k), misread(v), **call)


def attention_that_writes_to_q(q: Tensor, k: Tensor, v: Tensor, **call: Any) -> Tensor:
    output = _attend(q, k, v, **call)
    q.data.mul_(2)
    return output


def attention_that_raises_on_nothing(q: Tensor, k: Tensor, v: Tensor, **call: Any) -> Tensor:
    if len(q) == 0:
        raise RuntimeError("no tokens")
    return _attend(q, k, v, **call)


def attention_over_the_batch(q: Tensor, k: Tensor, v: Tensor, **call: Any) -> Tensor:
    return _attend(q, k, v, **call) + 0.0 * v.sum()


def attention_with_random_bits(q: Tensor, k: Tensor, v: Tensor, **call: Any) -> Tensor:
    output = _attend(q, k, v, **call)
    return output * (1 + 1e-6 * torch.rand_like(output))


def attention_without_window(q: Tensor, k: Tensor, v: Tensor, **call: Any) -> Tensor:
    return _attend(q, k, v, **(call | {"window": None}))


def attention_in_fp16(q: Tensor, k: Tensor, v: Tensor, **call: Any) -> Tensor:
    return reference.attention(*(x.half().to(x.dtype) for x in (q, k, v)), **call)


def attention_of_half_the_heads(q: Tensor, k: Tensor, v: Tensor, **call: Any) -> Tensor:
    return _attend(q, k.roll(1, 1), v.roll(1, 1), **call)


def loss_where(wrong: Callable[..., bool]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Losses of zero where the call is one that the backend gets wrong."""

    def masked_cross_entropy(*call: Any) -> tuple[Tensor, Tensor]:
        loss, log_normaliser = _loss(*call)
        return (loss * 0.0, log_normaliser) if wrong(*call) else (loss, log_normaliser)

    return masked_cross_entropy


def loss_off_a_little(*call: Any) -> tuple[Tensor, Tensor]:
    loss, log_normaliser = _loss(*call)
    return loss * 1.001, log_normaliser


def loss_with_random_bits(*call: Any) -> tuple[Tensor, Tensor]:
    loss, log_normaliser = _loss(*call)
    return loss * (1 + 1e-6 * torch.rand_like(loss)), log_normaliser


def loss_that_reads_every_row(hidden: Tensor, *call: Any) -> tuple[Tensor, Tensor]:
    loss, log_normaliser = _loss(hidden, *call)
    return loss + 0.0 * hidden.sum(), log_normaliser


def loss_in_fp64(*call: Any) -> tuple[Tensor, Tensor]:
    loss, log_normaliser = _loss(*call)
    return loss.double(), log_normaliser.double()


def loss_without_maximum(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor, targets: Tensor, sets: Any
) -> tuple[Tensor, Tensor]:
    scores = hidden[rows.long()] @ weight.T + (0.0 if bias is None else bias)
    loss, _ = _loss(hidden, weight, bias, rows, targets, sets)
    if sets is not None:
        members = sets.per_prediction(sets.unpack(len(weight)))
        scores = scores.masked_fill(~members, -torch.inf)
    return loss, scores.exp().sum(-1).log()


def loss_that_counts_nothing(*call: Any) -> tuple[Tensor, Tensor]:
    before = rejected_targets(call[0].device).clone()
    found = _loss(*call)
    rejected_targets(call[0].device).copy_(before)
    return found


def loss_without_gradient_of_bias(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, *call: Any
) -> tuple[Tensor, Tensor]:
    detached = None if bias is None else bias.detach() + 0.0 * bias
    return _loss(hidden, weight, detached, *call)


def softmax_nearly_zero(scores: Tensor, allowed: Any) -> Tensor:
    return _softmax(scores, allowed) + 1e-12


def softmax_over_everything_if_shared(scores: Tensor, allowed: Any) -> Tensor:
    return scores.softmax(-1) if allowed.index is None else _softmax(scores, allowed)


def softmax_that_reads_bits_past_the_vocabulary(scores: Tensor, allowed: Any) -> Tensor:
    empty = (allowed.words == 0).all(-1)
    found = _softmax(scores, allowed)
    return torch.where(allowed.per_prediction(empty)[:, None], found, found.clamp(min=1e-9))


def likelihood_of_one_kind_of_sets(*call: Any) -> Tensor:
    allowed = call[-1]
    found = _likelihood(*call)
    return torch.zeros_like(found) if allowed is None or allowed.index is None else found


def likelihood_in_fp64(*call: Any) -> Tensor:
    return _likelihood(*call).double()


def best_of_k_4_alone(*call: Any) -> tuple[Tensor, Tensor]:
    values, ids = _best(*call)
    return (values, ids) if call[4] == 4 else (values * 0.0, ids * 0)


def best_in_int32(*call: Any) -> tuple[Tensor, Tensor]:
    values, ids = _best(*call)
    return values, ids.int()


def best_in_the_wrong_order(*call: Any) -> tuple[Tensor, Tensor]:
    values, ids = _best(*call)
    return values, ids.flip(1)


def best_with_the_highest_id_first(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor, k: int, allowed: Any
) -> tuple[Tensor, Tensor]:
    values, ids = _best(hidden, weight, bias, rows, k, allowed)
    return values, torch.where(values == values[:, :1], ids.flip(1), ids)


def best_in_the_first_tile(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor, k: int, allowed: Any
) -> tuple[Tensor, Tensor]:
    values, ids = _best(hidden, weight, bias, rows, k, allowed)
    return (values - 0.1, ids) if len(weight) > 256 else (values, ids)


def rotary_of_head_dim_12(q: Tensor, k: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    return _rotate(q, k, table) if q.shape[-1] == 12 else (q, k)


def rotary_in_fp64(q: Tensor, k: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    rotated = _rotate(q, k, table)
    return rotated[0].double(), rotated[1].double()


def rotary_of_16_heads(q: Tensor, k: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    rotated, keys = _rotate(q, k, table)
    return torch.cat((rotated[:, :16], q[:, 16:]), dim=1), keys


def _index_of(name: str, dtype: torch.dtype) -> Callable[..., bool]:
    return lambda *_, **call: call[name] is not None and call[name].dtype == dtype


BROKEN = (
    Broken(
        "zeros beyond 16 tokens",
        "attention",
        attention_where(lambda *_, **call: int(call["cu_seqlens"].diff().max()) > 16),
        "attention, 17 to 32 tokens",
        "output is off by",
    ),
    Broken(
        "zeros beyond 32 tokens",
        "attention",
        attention_where(lambda *_, **call: int(call["cu_seqlens"].diff().max()) > 32),
        "attention, 33 to 64 tokens",
        "output is off by",
    ),
    Broken(
        "zeros beyond 128 tokens",
        "attention",
        attention_where(lambda *_, **call: int(call["cu_seqlens"].diff().max()) > 128),
        "attention, 150 tokens",
        "output is off by",
    ),
    Broken(
        "zeros beyond 1,024 tokens",
        "attention",
        attention_where(lambda *_, **call: int(call["cu_seqlens"].diff().max()) > 1024),
        "attention, more than 1,024 tokens, causal window",
        "output is off by",
    ),
    Broken(
        "head dimension 128",
        "attention",
        attention_where(lambda q, *_, **call: q.shape[-1] == 128),
        "attention, 150 tokens, head dimension 128, causal",
        "output is off by",
    ),
    Broken(
        "q, k and v as if contiguous",
        "attention",
        attention_as_if_contiguous,
        "attention in other layouts",
        "slice of a wider tensor: output is off by nan",
    ),
    Broken(
        "int64 cu_seqlens",
        "attention",
        attention_where(_index_of("cu_seqlens", torch.int64)),
        "attention, int64 indices",
        "output is off by",
    ),
    Broken(
        "int64 positions",
        "attention",
        attention_where(_index_of("positions", torch.int64)),
        "attention, int64 indices",
        "output is off by",
    ),
    Broken(
        "zeros in inference",
        "attention",
        attention_where(lambda q, *_, **call: not torch.is_grad_enabled()),
        "attention without gradients",
        "torch.no_grad: output is off by",
    ),
    Broken(
        "only q wants a gradient",
        "attention",
        attention_where(lambda q, k, *_, **call: not k.requires_grad),
        "attention, some gradients",
        "gradients of q alone: output is off by",
    ),
    Broken(
        "raises on no tokens",
        "attention",
        attention_that_raises_on_nothing,
        "attention of no tokens",
        "raised RuntimeError: no tokens",
    ),
    Broken(
        "writes to q",
        "attention",
        attention_that_writes_to_q,
        "attention, every pair",
        "q was written to",
    ),
    Broken(
        "one sequence reaches another",
        "attention",
        attention_over_the_batch,
        "attention next to a poisoned sequence",
        "output has other bits",
    ),
    Broken(
        "attention with random bits",
        "attention",
        attention_with_random_bits,
        "attention, repeated",
        "output has other bits in a repeated run",
    ),
    Broken(
        "window ignored",
        "attention",
        attention_without_window,
        "attention, window",
        "output is off by",
    ),
    Broken(
        "attention rounded to fp16",
        "attention",
        attention_in_fp16,
        "attention, every pair",
        "output is off by",
    ),
    Broken(
        "key-value heads in another order",
        "attention",
        attention_of_half_the_heads,
        "attention, grouped heads",
        "output is off by",
    ),
    Broken(
        "zeros beyond 256 ids",
        "masked_cross_entropy",
        loss_where(lambda hidden, weight, *_: len(weight) > 256),
        "cross-entropy, 300 ids",
        "loss is off by",
    ),
    Broken(
        "zeros beyond 128 predictions",
        "masked_cross_entropy",
        loss_where(lambda hidden, weight, bias, rows, *_: len(rows) > 128),
        "cross-entropy, 150 predictions, sets",
        "loss is off by",
    ),
    Broken(
        "no bias",
        "masked_cross_entropy",
        loss_where(lambda hidden, weight, bias, *_: bias is None),
        "cross-entropy, no bias",
        "loss is off by",
    ),
    Broken(
        "int64 rows",
        "masked_cross_entropy",
        loss_where(lambda hidden, weight, bias, rows, *_: rows.dtype == torch.int64),
        "cross-entropy, sets, no bias, int64 indices",
        "loss is off by",
    ),
    Broken(
        "loss with random bits",
        "masked_cross_entropy",
        loss_with_random_bits,
        "cross-entropy, every id",
        "loss has other bits in a repeated run",
    ),
    Broken(
        "reads rows that nobody predicts",
        "masked_cross_entropy",
        loss_that_reads_every_row,
        "cross-entropy next to poisoned rows",
        "loss has other bits with NaN in rows",
    ),
    Broken(
        "loss in fp64",
        "masked_cross_entropy",
        loss_in_fp64,
        "cross-entropy, every id",
        "loss is torch.float64; it must be torch.float32",
    ),
    Broken(
        "exponentials without the maximum",
        "masked_cross_entropy",
        loss_without_maximum,
        "cross-entropy, large scores",
        "log-normaliser",
    ),
    Broken(
        "loss off a little",
        "masked_cross_entropy",
        loss_off_a_little,
        "cross-entropy, every id",
        "loss is off by",
    ),
    Broken(
        "rejected targets are not counted",
        "masked_cross_entropy",
        loss_that_counts_nothing,
        "cross-entropy of targets outside their set",
        "of 2 targets outside their set 0 were counted",
    ),
    Broken(
        "no gradient of the bias",
        "masked_cross_entropy",
        loss_without_gradient_of_bias,
        "cross-entropy, every id",
        "gradient of bias is off by",
    ),
    Broken(
        "not exactly zero",
        "masked_softmax",
        softmax_nearly_zero,
        "masked softmax, sets",
        "probabilities must be exactly 0",
    ),
    Broken(
        "a shared set is ignored",
        "masked_softmax",
        softmax_over_everything_if_shared,
        "masked softmax, one set",
        "probabilities is off by",
    ),
    Broken(
        "bits past the vocabulary are read",
        "masked_softmax",
        softmax_that_reads_bits_past_the_vocabulary,
        "masked softmax, sets",
        "probabilities must be exactly 0",
    ),
    Broken(
        "likelihood of every id",
        "token_log_likelihood",
        likelihood_of_one_kind_of_sets,
        "token log-likelihood, every id",
        "log-probabilities is off by",
    ),
    Broken(
        "likelihood under one set",
        "token_log_likelihood",
        likelihood_of_one_kind_of_sets,
        "token log-likelihood, one set",
        "log-probabilities must be infinite exactly where",
    ),
    Broken(
        "likelihood in fp64",
        "token_log_likelihood",
        likelihood_in_fp64,
        "token log-likelihood, every id",
        "log-probabilities is torch.float64",
    ),
    Broken(
        "k other than 4",
        "top_k",
        best_of_k_4_alone,
        "top k, every id",
        "k = 1: log-probabilities is off by",
    ),
    Broken("int32 ids", "top_k", best_in_int32, "top k, every id", "ids is torch.int32"),
    Broken(
        "ids in the wrong order",
        "top_k",
        best_in_the_wrong_order,
        "top k, every id",
        "log-probabilities of the ids is off by",
    ),
    Broken(
        "the highest of equal ids",
        "top_k",
        best_with_the_highest_id_first,
        "top k of equal scores",
        "the lowest ids must come first",
    ),
    Broken(
        "best ids of one tile",
        "top_k",
        best_in_the_first_tile,
        "top k, 300 ids",
        "log-probabilities is off by",
    ),
    Broken(
        "rotary of one head dimension",
        "rotary",
        rotary_of_head_dim_12,
        "rotary",
        "head dimension 2: rotated q is off by",
    ),
    Broken("rotary in fp64", "rotary", rotary_in_fp64, "rotary", "rotated q is torch.float64"),
    Broken(
        "rotary of 16 heads",
        "rotary",
        rotary_of_16_heads,
        "rotary",
        "head dimension 64: rotated q is off by",
    ),
)
