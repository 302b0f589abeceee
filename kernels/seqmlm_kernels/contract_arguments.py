"""Arguments that the public functions must refuse, whatever the backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import seqmlm_kernels


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
    wrong = [*_wrong_attention(backend, device), *_wrong_projection(backend, device)]
    for case in wrong:
        message = None
        try:
            case.call()
        except case.error as error:
            message = str(error)
        assert message is not None, f"a wrong {case.argument} was taken"
        assert case.argument in message, f"the error does not name {case.argument}: {message}"


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
        _Wrong("k", call(k=zeros(4, 2, 4))),
        _Wrong("k", call(k=zeros(4, 3, 8), v=zeros(4, 3, 8))),
        _Wrong("k", call(k=zeros(4, 2, 8, dtype=torch.float16)), TypeError),
        _Wrong("v", call(v=zeros(4, 1, 8))),
        _Wrong("cu_seqlens", call(cu_seqlens=zeros(3)), TypeError),
        _Wrong("cu_seqlens", call(cu_seqlens=torch.zeros(1, 3, dtype=torch.int64, device=device))),
        _Wrong("positions", call(positions=torch.zeros(3, dtype=torch.int64, device=device))),
        _Wrong("visibility", call(visibility=seqmlm_kernels.Visibility.bidirectional(3))),
        _Wrong("window", call(window=-1)),
        _Wrong("backend", call(backend="no such backend")),
    ]
    by_value = [
        _Wrong("cu_seqlens", call(cu_seqlens=torch.tensor([0, 5]))),
        _Wrong("cu_seqlens", call(cu_seqlens=torch.tensor([0, 3, 2, 4]))),
        _Wrong("max_seqlen", call(max_seqlen=2)),
    ]
    return everywhere + (by_value if device.type == "cpu" else [])


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
        _Wrong("weight", call(weight=zeros(40, 5))),
        _Wrong("weight", call(weight=zeros(40, 4, dtype=torch.float16)), TypeError),
        _Wrong("bias", call(bias=zeros(39))),
        _Wrong("rows", call(rows=zeros(2)), TypeError),
        _Wrong("targets", call(targets=integers(1))),
        _Wrong("allowed", call(allowed=everything.long()), TypeError),
        _Wrong("allowed", call(allowed=everything[:, :1])),
        _Wrong("allowed", call(allowed=everything.expand(2, 2))),
        _Wrong("allowed_index", call(allowed=everything, allowed_index=integers(0))),
        _Wrong("allowed_index", call(allowed_index=integers(0, 0))),
        _Wrong(
            "k",
            lambda: seqmlm_kernels.top_k(
                zeros(3, 4), zeros(40, 4), None, integers(0), 41, backend=backend
            ),
        ),
    ]
    by_value = [
        _Wrong("rows", call(rows=integers(0, 3))),
        _Wrong("targets", call(targets=integers(1, 40))),
        _Wrong("targets", call(allowed=torch.zeros_like(everything) + 2, targets=integers(1, 2))),
        _Wrong("allowed_index", call(allowed=everything, allowed_index=integers(0, 1))),
    ]
    return everywhere + (by_value if device.type == "cpu" else [])
