"""Arguments that the public functions must refuse, whatever the backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import seqmlm_kernels
from seqmlm_kernels.contract_subject import naming


@dataclass(frozen=True)
class _Wrong:
    """A call with one wrong argument, which the message must name."""

    argument: str
    call: Callable[[], object]
    error: type[Exception] = ValueError


def check_argument_errors(backend: str, device: torch.device) -> None:
    """Raise AssertionError where a wrong argument is taken, or its message does not name it.

    Values are looked at on the CPU only; shapes, dtypes and ranges of scalars everywhere.
    """
    wrong = [
        *_wrong_attention(backend, device),
        *_wrong_under_autocast(backend, device),
        *_wrong_projection(backend, device),
        *_wrong_inference(backend, device),
        *_wrong_rotary(backend, device),
    ]
    for case in wrong:
        message = None
        with naming(f"a wrong {case.argument}"):
            try:
                case.call()
            except case.error as error:
                message = str(error)
            assert message is not None, "was taken"
            assert case.argument in message, f"is not named by the error: {message}"


def _wrong_attention(backend: str, device: torch.device) -> list[_Wrong]:
    def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    def call(**changed: Any) -> Callable[[], object]:
        arguments: dict[str, Any] = {
            "q": zeros(4, 2, 8),
            "k": zeros(4, 2, 8),
            "v": zeros(4, 2, 8),
            "cu_seqlens": torch.tensor([0, 1, 4], device=device),
            "max_seqlen": 3,
            "backend": backend,
        }
        return lambda: seqmlm_kernels.attention(**(arguments | changed))

    everywhere = [
        _Wrong("q", call(q=zeros(4, 8))),
        _Wrong("q", call(q=zeros(4, 2, 8, dtype=torch.int64)), TypeError),
        _Wrong("q", call(q=[[[0.0]]]), TypeError),
        _Wrong("q", call(q=zeros(4, 2, 0), k=zeros(4, 2, 0), v=zeros(4, 2, 0))),
        _Wrong("q", call(q=zeros(4, 0, 8))),
        _Wrong("q", call(q=torch.zeros(4, 2, 8, device="meta"))),
        _Wrong("k", call(k=zeros(4, 2, 4))),
        _Wrong("k", call(k=zeros(4, 3, 8), v=zeros(4, 3, 8))),
        _Wrong("k", call(k=zeros(4, 2, 8, dtype=torch.float16)), TypeError),
        _Wrong("v", call(v=zeros(4, 1, 8))),
        _Wrong("cu_seqlens", call(cu_seqlens=zeros(3)), TypeError),
        _Wrong("cu_seqlens", call(cu_seqlens=torch.zeros(1, 3, dtype=torch.int64, device=device))),
        _Wrong("cu_seqlens", call(cu_seqlens=[0, 4]), TypeError),
        _Wrong("cu_seqlens", call(cu_seqlens=torch.tensor([0], device=device))),
        _Wrong("max_seqlen", call(max_seqlen=None), TypeError),
        _Wrong("max_seqlen", call(max_seqlen=-1)),
        _Wrong("visibility", call(visibility=(0, 0, 0)), TypeError),
        _Wrong("window", call(window=2.5), TypeError),
        _Wrong("window", call(window=True), TypeError),
        _Wrong("window", call(window=2**70)),
        _Wrong("scale", call(scale="a"), TypeError),
        _Wrong("scale", call(scale=float("nan"))),
        _Wrong("positions", call(positions=torch.zeros(3, dtype=torch.int64, device=device))),
        _Wrong("visibility", call(visibility=seqmlm_kernels.Visibility.bidirectional(3))),
        _Wrong("window", call(window=-1)),
        _Wrong("backward", call(backward="no such backward")),
        _Wrong("backend", call(backend="no such backend")),
    ]
    by_value = [
        _Wrong("cu_seqlens", call(cu_seqlens=torch.tensor([0, 5]))),
        _Wrong("cu_seqlens", call(cu_seqlens=torch.tensor([0, 3, 2, 4]))),
        _Wrong("max_seqlen", call(max_seqlen=2)),
        _Wrong("positions", call(window=1, positions=torch.tensor([0, 1, 2, 2**32]))),
        _Wrong("positions", call(window=1, positions=torch.tensor([-(2**31), 0, 1, 2**31 - 1]))),
    ]
    return everywhere + (by_value if device.type == "cpu" else [])


def _wrong_under_autocast(backend: str, device: torch.device) -> list[_Wrong]:
    """One operand that torch.autocast casts and one that it does not."""

    def under_autocast(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with torch.autocast(device.type, dtype=torch.bfloat16):
                return call()

        return run

    single = torch.zeros(4, 2, 8, device=device)
    cu_seqlens = torch.tensor([0, 4], device=device)
    rows = torch.tensor([0, 2], device=device)

    def attend(k: Tensor, v: Tensor) -> object:
        return seqmlm_kernels.attention(
            single, k, v, cu_seqlens=cu_seqlens, max_seqlen=4, backend=backend
        )

    def loss(weight: Tensor, bias: Tensor) -> object:
        hidden = single[:, 0]
        return seqmlm_kernels.masked_cross_entropy(
            hidden, weight, bias, rows, rows, backend=backend
        )

    weight, bias = single[:, 0], single[:, 0, 0]
    return [
        _Wrong("k", under_autocast(lambda: attend(single.double(), single)), TypeError),
        _Wrong("v", under_autocast(lambda: attend(single, single.double())), TypeError),
        _Wrong("weight", under_autocast(lambda: loss(weight.double(), bias)), TypeError),
        _Wrong("bias", under_autocast(lambda: loss(weight, bias.double())), TypeError),
    ]


def _wrong_projection(backend: str, device: torch.device) -> list[_Wrong]:
    def integers(*values: int) -> Tensor:
        return torch.tensor(values, device=device)

    def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    def call(**changed: Any) -> Callable[[], object]:
        arguments: dict[str, Any] = {
            "hidden": zeros(3, 4),
            "weight": zeros(40, 4),
            "bias": zeros(40),
            "rows": integers(0, 2),
            "targets": integers(1, 39),
            "backend": backend,
        }
        return lambda: seqmlm_kernels.masked_cross_entropy(**(arguments | changed))

    everything = torch.full((1, 2), -1, dtype=torch.int32, device=device)
    everywhere = [
        _Wrong("hidden", call(hidden=[0.0]), TypeError),
        _Wrong("hidden", call(hidden=zeros(3, 0), weight=zeros(40, 0))),
        _Wrong("weight", call(weight=zeros(40, 5))),
        _Wrong("weight", call(weight=zeros(0, 4), bias=zeros(0))),
        _Wrong("weight", call(weight=zeros(40, 4, dtype=torch.float16)), TypeError),
        _Wrong("bias", call(bias=zeros(39))),
        _Wrong("bias", call(bias=0.0), TypeError),
        _Wrong("rows", call(rows=zeros(2)), TypeError),
        _Wrong("rows", call(rows=[0, 2]), TypeError),
        _Wrong("targets", call(targets=[1, 39]), TypeError),
        _Wrong("targets", call(targets=integers(1))),
        _Wrong("allowed", call(allowed=everything.long()), TypeError),
        _Wrong("allowed", call(allowed=[-1, -1]), TypeError),
        _Wrong("allowed", call(allowed=everything[:, :1])),
        _Wrong("allowed", call(allowed=everything.expand(2, 2))),
        _Wrong("allowed_index", call(allowed=everything, allowed_index=integers(0))),
        _Wrong("allowed_index", call(allowed_index=integers(0, 0))),
    ]
    by_value = [
        _Wrong("rows", call(rows=integers(0, 3))),
        _Wrong("targets", call(targets=integers(1, 40))),
        _Wrong("targets", call(allowed=torch.zeros_like(everything) + 2, targets=integers(1, 2))),
        _Wrong("allowed_index", call(allowed=everything, allowed_index=integers(0, 1))),
    ]
    return everywhere + (by_value if device.type == "cpu" else [])


def _wrong_inference(backend: str, device: torch.device) -> list[_Wrong]:
    hidden, weight = torch.zeros(3, 4, device=device), torch.zeros(40, 4, device=device)
    rows = torch.tensor([0, 2], device=device)
    everything = torch.full((1, 2), -1, dtype=torch.int32, device=device)

    def best(k: Any) -> Callable[[], object]:
        return lambda: seqmlm_kernels.top_k(hidden, weight, None, rows, k, backend=backend)

    def likelihood(token_ids: Any) -> Callable[[], object]:
        return lambda: seqmlm_kernels.token_log_likelihood(
            hidden, weight, None, rows, token_ids, backend=backend
        )

    def softmax(scores: Any, allowed: Any = everything) -> Callable[[], object]:
        return lambda: seqmlm_kernels.masked_softmax(scores, allowed, backend=backend)

    scores = torch.zeros(2, 40, device=device)
    return [
        _Wrong("k", best(0)),
        _Wrong("k", best(41)),
        _Wrong("k", best(2.5), TypeError),
        _Wrong("k", best(True), TypeError),
        _Wrong("token_ids", likelihood([[1], [2]]), TypeError),
        _Wrong("token_ids", likelihood(rows[:1])),
        _Wrong("scores", softmax([[0.0]]), TypeError),
        _Wrong("scores", softmax(scores[0])),
        _Wrong("scores", softmax(scores[:, :0], everything[:, :0])),
        _Wrong("allowed", softmax(scores, None), TypeError),
    ]


def _wrong_rotary(backend: str, device: torch.device) -> list[_Wrong]:
    def call(**changed: Any) -> Callable[[], object]:
        arguments: dict[str, Any] = {
            "q": torch.zeros(4, 2, 8, device=device),
            "k": torch.zeros(4, 2, 8, device=device),
            "positions": torch.arange(4, device=device),
            "backend": backend,
        }
        return lambda: seqmlm_kernels.rotary(**(arguments | changed))

    odd = torch.zeros(4, 2, 3, device=device)
    return [
        _Wrong("q", call(q=0.0), TypeError),
        _Wrong("k", call(k=odd)),
        _Wrong("head_dim", call(q=odd, k=odd)),
        _Wrong("positions", call(positions=[0, 1, 2, 3]), TypeError),
        _Wrong("positions", call(positions=torch.arange(3, device=device))),
        _Wrong("base", call(base="a"), TypeError),
        _Wrong("base", call(base=0.0)),
        _Wrong("base", call(base=float("inf"))),
        _Wrong("table", call(table=torch.zeros(2, 3, 8, device=device))),
        _Wrong("table", call(table=1.0), TypeError),
    ]
