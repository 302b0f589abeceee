"""Which backend runs a call, and why another one cannot."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, cast

import torch
from torch import Tensor

from seqmlm_kernels.allowed import AllowedSets
from seqmlm_kernels.visibility import Visibility

BACKENDS = ("reference", "torch", "triton")

# One row per backend that exists; its module is imported when a call first selects it.
_MODULES: Mapping[str, str] = {
    "reference": "seqmlm_kernels.reference",
    "torch": "seqmlm_kernels.torch_backend",
}

_logger = logging.getLogger("seqmlm_kernels")


class BackendUnavailableError(RuntimeError):
    """The backend asked for by name cannot run this call; nothing else was run instead."""


class Backend(Protocol):
    """What the module of a backend provides; its arguments arrive checked and complete."""

    def attention(
        self,
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
    ) -> Tensor:
        """See `seqmlm_kernels.attention`."""

    def masked_cross_entropy(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: Tensor,
        targets: Tensor,
        allowed: AllowedSets | None,
    ) -> tuple[Tensor, Tensor]:
        """See `seqmlm_kernels.masked_cross_entropy`; a target not allowed has loss 0."""

    def masked_softmax(self, scores: Tensor, allowed: AllowedSets) -> Tensor:
        """See `seqmlm_kernels.masked_softmax`."""

    def token_log_likelihood(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: Tensor,
        token_ids: Tensor,
        allowed: AllowedSets | None,
    ) -> Tensor:
        """See `seqmlm_kernels.token_log_likelihood`; here token_ids is always [M, K]."""

    def top_k(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: Tensor,
        k: int,
        allowed: AllowedSets | None,
    ) -> tuple[Tensor, Tensor]:
        """See `seqmlm_kernels.top_k`."""

    def rotary(self, q: Tensor, k: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """See `seqmlm_kernels.rotary`."""


def available_backends() -> tuple[str, ...]:
    """Names that may be passed as ``backend``, other than "auto"."""
    return tuple(name for name in BACKENDS if why_unavailable(name) is None)


def why_unavailable(name: str) -> str | None:
    """Reason why the backend called ``name`` cannot run, or None when it can.

    Raises:
        ValueError: no backend has that name.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend is {name!r}; it must be one of: auto, {', '.join(BACKENDS)}.")
    return None if name in _MODULES else "this build of seqmlm_kernels does not contain it"


def select_backend(name: str, device: torch.device) -> Backend:
    """Return the backend that runs a call on tensors of ``device``.

    Args:
        name: "auto", or the one backend that may run it. "auto" is triton on CUDA and torch
            elsewhere; where triton cannot run it is torch, and the reason is logged once.
        device: of the tensors.

    Raises:
        BackendUnavailableError: the named backend cannot run here.
        ValueError: no backend has that name.
    """
    if name == "auto":
        name = _automatic_backend(device)
    reason = why_unavailable(name)
    if reason is not None:
        raise BackendUnavailableError(
            f"backend={name!r} was asked for and cannot run: {reason}. "
            f"Available: auto, {', '.join(available_backends())}."
        )
    return cast(Backend, importlib.import_module(_MODULES[name]))


def in_autocast_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast as torch.autocast casts for a matrix product: all but fp64, when it is enabled."""
    device_type = tensors[0].device.type
    if not torch.is_autocast_enabled(device_type):
        return tensors
    dtype = torch.get_autocast_dtype(device_type)
    return tuple(x if x.dtype == torch.float64 else x.to(dtype) for x in tensors)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Inside, operations keep the dtypes they are given: a backend chose its own precision."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _automatic_backend(device: torch.device) -> str:
    if device.type != "cuda":
        return "torch"
    reason = why_unavailable("triton")
    if reason is None:
        return "triton"
    _log_fallback(reason)
    return "torch"


@functools.cache
def _log_fallback(reason: str) -> None:
    """Log a reason the first time it occurs."""
    _logger.warning("backend 'auto' runs torch instead of triton on CUDA: %s", reason)
