"""Which backend runs a call, and why another one cannot."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from seqmlm_kernels.allowed import AllowedSets
from seqmlm_kernels.visibility import Visibility

BACKENDS = ("reference", "torch", "triton")
AttentionBackward = Literal["deterministic", "atomic"]

# Ampere: the first with bfloat16 and asynchronous copies.
_LOWEST_COMPUTE_CAPABILITY = (8, 0)
# Looked up here, since torch.compile cannot trace it.
_TRITON_IS_INSTALLED = importlib.util.find_spec("triton") is not None
# What Triton takes for true in an environment variable.
_TRUE = ("1", "true", "yes", "on", "y")

# What the Triton kernels compute with.
TRITON_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
TRITON_LARGEST_HEAD_DIM = 256

PROVEN_CAPABILITIES: frozenset[tuple[int, int]] = frozenset()
"""Compute capabilities of the GPUs on which "auto" chooses the Triton kernels.

The kernels agree with the reference in Triton's interpreter and compile for four architectures,
but neither shows a race or real bf16. A capability is added once ``python -m benchmarks.gpu`` has
found every kernel correct and deterministic on such a GPU; it prints the line to put here.
"""

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
        backward: AttentionBackward,
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


def available_backends(device: torch.device | None = None) -> tuple[str, ...]:
    """Names that may be passed as ``backend``, other than "auto".

    Args:
        device: of the tensors; None asks for any device of this machine.
    """
    return tuple(name for name in BACKENDS if why_unavailable(name, device) is None)


def why_unavailable(name: str, device: torch.device | None = None) -> str | None:
    """Reason why the backend called ``name`` cannot run, or None when it can.

    Args:
        name: one of BACKENDS.
        device: of the tensors; None asks for any device of this machine.

    Raises:
        ValueError: no backend has that name.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend is {name!r}; it must be one of: auto, {', '.join(BACKENDS)}.")
    return _why_triton_unavailable(device) if name == "triton" else None


def select_backend(
    name: str,
    device: torch.device,
    *,
    dtypes: tuple[torch.dtype, ...] = (),
    head_dim: int = 1,
) -> Backend:
    """Return the backend that runs a call on tensors of ``device``.

    Args:
        name: "auto", or the one backend that may run it. "auto" is triton on the GPUs of
            PROVEN_CAPABILITIES and torch elsewhere; where triton cannot run the call it is torch,
            and the reason is logged once.
        device: of the tensors.
        dtypes: of the floating tensors, where the call is known.
        head_dim: of the queries and keys, where there are some.

    Raises:
        BackendUnavailableError: the named backend cannot run here.
        ValueError: no backend has that name.
    """
    if name == "auto":
        name = _automatic_backend(device, dtypes, head_dim)
    reason = why_unavailable(name, device)
    if reason is not None:
        raise BackendUnavailableError(
            f"backend={name!r} was asked for and cannot run: {reason}. "
            f"Available: auto, {', '.join(available_backends(device))}."
        )
    return _module_of(name)


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


def _module_of(name: str) -> Backend:
    """Import a backend when a call first selects it, by statements that torch.compile traces."""
    if name == "reference":
        from seqmlm_kernels import reference

        return cast(Backend, reference)
    if name == "torch":
        from seqmlm_kernels import torch_backend

        return cast(Backend, torch_backend)
    from seqmlm_kernels import triton_backend

    return cast(Backend, triton_backend)


def _automatic_backend(device: torch.device, dtypes: tuple[torch.dtype, ...], head_dim: int) -> str:
    if device.type != "cuda":
        return "torch"
    reason = (
        why_unavailable("triton", device)
        or _why_call_unsuitable(dtypes, head_dim)
        or _why_unproven(device)
    )
    if reason is None:
        return "triton"
    if not torch.compiler.is_compiling():  # a log record would break the graph
        _log_fallback(reason)
    return "torch"


def _why_call_unsuitable(dtypes: tuple[torch.dtype, ...], head_dim: int) -> str | None:
    for dtype in dtypes:
        if dtype not in TRITON_DTYPES:
            return f"its kernels have no {dtype}"
    if head_dim > TRITON_LARGEST_HEAD_DIM:
        return f"head_dim is {head_dim} and its kernels have at most {TRITON_LARGEST_HEAD_DIM}"
    return None


def _why_unproven(device: torch.device) -> str | None:
    capability = _compute_capability(device)
    if torch.version.hip is None and capability in PROVEN_CAPABILITIES:
        return None
    return (
        f"its kernels have not been proven on {torch.cuda.get_device_properties(device).name}; "
        "ask for it by name"
    )


def _compute_capability(device: torch.device | None) -> tuple[int, int]:
    # Of the properties, which torch.compile treats as a constant, unlike get_device_capability.
    properties = torch.cuda.get_device_properties(device)
    return properties.major, properties.minor


def _why_triton_unavailable(device: torch.device | None) -> str | None:
    if not _TRITON_IS_INSTALLED:
        return "the package triton is not installed (it exists for Linux on x86_64)"
    asked_to_interpret = os.environ.get("TRITON_INTERPRET", "0").lower() in _TRUE
    reason = None if asked_to_interpret else _why_device_unsuitable(device)
    # While a graph is traced the import that follows would break a guard on what is loaded.
    is_traced = torch.compiler.is_compiling()
    loaded = None if is_traced else sys.modules.get("seqmlm_kernels.triton_backend")
    if reason is None and loaded is not None and asked_to_interpret != loaded.INTERPRETED:
        reason = (
            f"its kernels were loaded with TRITON_INTERPRET={int(loaded.INTERPRETED)} and it is "
            f"{int(asked_to_interpret)} now; set it before Python starts"
        )
    return reason


def _why_device_unsuitable(device: torch.device | None) -> str | None:
    if device is not None and device.type != "cuda":
        return (
            f"the tensors are on {device} and Triton kernels run on CUDA devices "
            "(TRITON_INTERPRET=1, set before Python starts, interprets them slowly on the CPU)"
        )
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    if torch.version.hip is not None:
        return None
    capability = _compute_capability(device)
    if capability < _LOWEST_COMPUTE_CAPABILITY:
        return (
            f"{torch.cuda.get_device_properties(device).name} has compute capability "
            f"{'.'.join(map(str, capability))} and the kernels need at least "
            f"{'.'.join(map(str, _LOWEST_COMPUTE_CAPABILITY))}"
        )
    return None


@functools.cache
def _log_fallback(reason: str) -> None:
    """Log a reason the first time it occurs."""
    _logger.warning("backend 'auto' runs torch instead of triton on CUDA: %s", reason)
