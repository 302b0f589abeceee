"""Every kernel on this device against the reference in fp64, forward and gradients.

First the package's own contract, whose shapes are small; then every launch of the tables and every
branch of the launchers at the sizes that training has. `benchmarks.gpu.branches` reads off the
launches which branches ran; only all of them, each right, are a proof. Whatever is computed twice
must come out bit-equal, except the gradients of the atomic backward. A check ends when it is
right, wrong or raises; one for which there was no memory, as others used it, can be done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu import branches
from benchmarks.gpu.claims import Claims
from benchmarks.gpu.session import Session, reason_of
from seqmlm_kernels import contract
from seqmlm_kernels.dispatch import select_backend
from seqmlm_kernels.triton.launch import InputPrecision, architecture_of

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
# TF32 keeps as many bits as fp16.
TF32_TOLERANCE = contract.TOLERANCES[torch.float16]
Results = tuple[Tensor, ...]


@dataclass(frozen=True)
class Comparison:
    """What is held against what.

    Args:
        case: names the row.
        names: of the results.
        run: computes the results; it is run twice.
        expected: computes what they should be, in fp64.
        must_repeat: whether two runs that differ are a fault.
        ways: of `branches.WAYS`, in which it is run.
        precision: how matrix products of fp32 round.
    """

    case: str
    names: Sequence[str]
    run: Callable[[], Results]
    expected: Callable[[], Results]
    must_repeat: bool = True
    ways: tuple[str, ...] = ()
    precision: InputPrecision = "ieee"


Piece = tuple[str, Callable[[Session], None]]


def run(session: Session) -> None:
    """Record whether each piece is right, which have ended, and which branches ran."""
    dtypes = DTYPES[:1] if session.is_rehearsal else DTYPES
    every = list(pieces(dtypes, is_rehearsal=session.is_rehearsal))
    if session.shard[0] == 0:
        architecture = architecture_of(session.device)
        for dtype in dtypes:
            names = sorted(branches.required(dtype, architecture))
            session.record("branches that there are", dtype=_name(dtype), branches=names)
        session.record("checks that there are", checks=[name for name, _ in every])
    claims = Claims(session.part.parent / "claims")
    for index in claims.turns(len(every), session.shard):
        name, piece = every[index]
        if has_ended(session, name, piece):
            claims.end(index)
            session.record("checks that ended", check=name)
        session.stop_if_device_is_lost()
        session.free_memory()


def has_ended(session: Session, name: str, piece: Callable[[Session], None]) -> bool:
    """Run a piece; false if others left too little memory for it."""
    is_short_of_memory = False

    def run_if_memory_is_left() -> None:
        nonlocal is_short_of_memory
        try:
            piece(session)
        except torch.OutOfMemoryError as error:
            is_short_of_memory = True
            session.record("stopped", what=f"correctness: {name}", reason=reason_of(error))

    session.attempt(f"correctness: {name}", run_if_memory_is_left)
    return not is_short_of_memory


def pieces(dtypes: Sequence[torch.dtype], *, is_rehearsal: bool) -> Iterator[Piece]:
    """Everything that is checked, each by itself; of a rehearsal one of each sort."""
    from benchmarks.gpu import attention_checks, prediction_checks

    names = list(contract.checks())
    for dtype in dtypes:
        for name in names[:1] if is_rehearsal else names:
            yield f"{name}, {_name(dtype)}", partial(check_contract, name=name, dtype=dtype)
        for module in (attention_checks, prediction_checks):
            for name, piece in module.pieces(dtype, is_rehearsal=is_rehearsal):
                yield f"{name}, {_name(dtype)}", piece


def check_contract(session: Session, *, name: str, dtype: torch.dtype) -> None:
    """One promise of the contract."""
    subject = contract.Subject(select_backend("triton", session.device), session.device, dtype)
    reason = None
    with branches.recorded() as launches:
        try:
            contract.checks()[name](subject)
        except AssertionError as error:
            reason = str(error)
    session.record(
        "correctness",
        case=f"contract: {name}",
        dtype=_name(dtype),
        is_accepted=reason is None,
        reason=reason,
    )
    if reason is None:
        keep_branches(session, dtype, launches.branches)


def compare(session: Session, dtype: torch.dtype, comparison: Comparison) -> None:
    """Record errors as shares of the largest expected number, and whether two runs are bit-equal.

    Infinities must stand where they are expected. The branches count if all is right.
    """
    expected = comparison.expected()
    with branches.recorded() as launches, branches.products_in(comparison.precision):
        first, second = comparison.run(), comparison.run()
    errors = {
        name: error_of(found, wanted)
        for name, found, wanted in zip(comparison.names, first, expected, strict=True)
    }
    is_repeated = all(map(torch.equal, first, second))
    most = TF32_TOLERANCE if comparison.precision == "tf32" else contract.TOLERANCES[dtype]
    is_accepted = all(error <= most for error in errors.values())  # NaN is not
    session.record(
        "correctness",
        case=comparison.case,
        dtype=_name(dtype),
        is_accepted=is_accepted,
        worst_error=max(errors.values()),
        errors=errors,
        **({"is_deterministic": is_repeated} if comparison.must_repeat else {}),
    )
    if is_accepted and (is_repeated or not comparison.must_repeat):
        keep_branches(session, dtype, launches.branches | set(comparison.ways))


def error_of(found: Tensor, expected: Tensor) -> float:
    """Largest difference as a share of the largest expected number; infinite where shapes differ.

    Infinite as well where an infinity is missing or one too many.
    """
    if found.shape != expected.shape:
        return torch.inf
    infinite = expected.isinf()
    if not torch.equal(found.double()[infinite], expected.double()[infinite]):
        return torch.inf
    if bool(infinite.all()):
        return 0.0
    difference = (found.double() - expected)[~infinite].abs().max()
    return float(difference / expected[~infinite].abs().max().clamp_min(1e-30))


def keep_branches(session: Session, dtype: torch.dtype, names: set[str]) -> None:
    """Record those that this process has not had yet."""
    had = {
        name
        for row in session.tables.get("branches that are right", [])
        if row["dtype"] == _name(dtype)
        for name in row["branches"]
    }
    if names - had:
        session.record("branches that are right", dtype=_name(dtype), branches=sorted(names - had))


def replayed(
    run: Callable[[], Results], inputs: Sequence[Tensor], others: Sequence[Tensor]
) -> Results:
    """Results of a CUDA graph of ``run``, captured on ``others`` and replayed on ``inputs``.

    Args:
        inputs: what ``run`` reads; they hold the same again at the end.
        others: contents of the same shapes and dtypes.
    """
    contents = [x.detach().clone() for x in inputs]

    def fill(values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for x, value in zip(inputs, values, strict=True):
                x.copy_(value)

    fill(others)
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()
    fill(contents)
    graph.replay()
    return tuple(x.clone() for x in results)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
