"""What every backend promises, as checks that hold one to it, on any device and in any dtype.

The reference in fp64 on the same rounded inputs says what is right; zeros, infinities and repeated
runs must be exact. Shapes are as small as still takes every launch of the Triton kernels that a
shape decides: seconds for a dtype, a minute where Triton is interpreted. What the amount of memory
decides, as slabs of the vocabulary do, is left to ``python -m benchmarks.gpu``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from seqmlm_kernels import contract_arguments
from seqmlm_kernels.contract_attention import attention_checks
from seqmlm_kernels.contract_predictions import prediction_checks
from seqmlm_kernels.contract_rotary import rotary_checks
from seqmlm_kernels.contract_softmax import softmax_checks
from seqmlm_kernels.contract_subject import TOLERANCES, Subject, naming
from seqmlm_kernels.dispatch import Backend, select_backend

__all__ = ["TOLERANCES", "Subject", "check_backend", "checks"]


def check_backend(
    backend: str | Backend,
    *,
    device: torch.device | str = "cpu",
    dtypes: Sequence[torch.dtype] = (torch.float32,),
) -> None:
    """Hold a backend to its contract; seconds per dtype, a minute where Triton interprets.

    Args:
        backend: a name, whose checks of arguments are checked as well, or a module or object that
            provides `seqmlm_kernels.dispatch.Backend`.
        device: where it computes.
        dtypes: in what it computes, of TOLERANCES.

    Raises:
        AssertionError: a promise is broken, or a call raised; the message names the function, the
            case and what differs.
        BackendUnavailableError: the named backend cannot run here.
    """
    device = torch.device(device)
    if isinstance(backend, str):
        contract_arguments.check_argument_errors(backend, device)
        backend = select_backend(backend, device)
    for dtype in dtypes:
        for check in checks().values():
            check(Subject(backend, device, dtype))


def checks() -> dict[str, Callable[[Subject], None]]:
    """Every promise by name, as a function that raises AssertionError where it is broken."""
    every = {**attention_checks(), **prediction_checks(), **softmax_checks(), **rotary_checks()}
    return {name: _named(name, check) for name, check in every.items()}


def _named(name: str, check: Callable[[Subject], None]) -> Callable[[Subject], None]:
    def named(subject: Subject) -> None:
        with naming(f"{name}, {subject.dtype}"):
            check(subject)

    return named
