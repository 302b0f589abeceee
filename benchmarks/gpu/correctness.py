"""Every kernel on this device against the reference in fp64, forward and gradients.

First the package's own contract, whose shapes are small; then attention and cross-entropy at the
sizes that training has: long rows among short ones, empty rows, many tiles. Whatever is computed
twice must come out bit-equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu import cross_entropy
from benchmarks.gpu.pseudo_masking import pseudo_masked
from benchmarks.gpu.session import Session
from seqmlm_kernels import Visibility, attention, contract
from seqmlm_kernels.dispatch import select_backend

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True)
class AttentionCase:
    """Ragged sequences of one head dimension under one rule."""

    head_dim: int
    rule: str
    window: int | None = None
    heads: int = 4
    kv_heads: int = 2


RULES = (("every pair", None), ("causal", None), ("every pair", 64), ("pseudo-masked", 100))
CASES = tuple(
    AttentionCase(head_dim, rule, window)
    for head_dim in (32, 64, 96, 128)
    for rule, window in RULES
)


def run(session: Session) -> None:
    """Record whether each piece is right, in the table "correctness"."""
    dtypes = DTYPES[:1] if session.is_rehearsal else DTYPES
    for name, piece in session.mine(list(_pieces(session, dtypes))):
        session.attempt(f"correctness: {name}", piece)


def _pieces(
    session: Session, dtypes: tuple[torch.dtype, ...]
) -> Iterator[tuple[str, Callable[[], None]]]:
    names = list(contract.checks())
    if session.is_rehearsal:
        names = names[-1:]
    cases = CASES[3:4] if session.is_rehearsal else CASES
    for dtype in dtypes:
        for name in names:
            yield f"{name}, {dtype}", partial(check_contract, session, name, dtype)
        for case in cases:
            yield f"{case}, {dtype}", partial(check_attention, session, case, dtype)
        for prediction_case in cross_entropy.correctness_cases(is_rehearsal=session.is_rehearsal):
            yield (
                f"{prediction_case.name}, {dtype}",
                partial(cross_entropy.check, session, prediction_case, dtype),
            )


def check_contract(session: Session, name: str, dtype: torch.dtype) -> None:
    """One promise of the contract."""
    subject = contract.Subject(select_backend("triton", session.device), session.device, dtype)
    reason = None
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


def check_attention(session: Session, case: AttentionCase, dtype: torch.dtype) -> None:
    """Output and gradients of one ragged batch, and a second run of it."""
    lengths = [33, 0, 5] if session.is_rehearsal else [1500, 0, 1, 63, 64, 65, 0, 700, 129, 16, 3]
    visibility, cu_seqlens = _rule(case.rule, lengths, session.device)
    tokens = int(cu_seqlens[-1])
    generator = torch.Generator(session.device).manual_seed(0)
    leaves = [
        torch.randn(tokens, heads, case.head_dim, generator=generator, device=session.device)
        .to(dtype)
        .requires_grad_()
        for heads in (case.heads, case.kv_heads, case.kv_heads)
    ]
    above = torch.randn(leaves[0].shape, generator=generator, device=session.device).to(dtype)

    def results(operands: list[Tensor], backend: str) -> tuple[Tensor, ...]:
        output = attention(
            *operands,
            cu_seqlens=cu_seqlens,
            max_seqlen=int(cu_seqlens.diff().max()),
            visibility=visibility,
            window=case.window,
            backend=backend,
        )
        gradients = torch.autograd.grad(output, operands, above.to(output.dtype))
        return output.detach(), *gradients

    expected = results([x.detach().double().requires_grad_() for x in leaves], "reference")
    first, second = results(leaves, "triton"), results(leaves, "triton")
    record(
        session,
        f"attention, head_dim {case.head_dim}, {case.rule}, window {case.window}",
        dtype,
        zip(("output", "dq", "dk", "dv"), first, second, expected, strict=True),
    )


def record(
    session: Session,
    case: str,
    dtype: torch.dtype,
    results: Iterator[tuple[str, Tensor, Tensor, Tensor]],
) -> None:
    """Record errors as shares of the largest expected number, and whether two runs are bit-equal.

    Args:
        results: name, result, result of the second run, expected result.
    """
    errors = {}
    is_repeated = True
    for name, first, second, expected in results:
        errors[name] = float((first.double() - expected).abs().max() / expected.abs().max())
        is_repeated &= torch.equal(first, second)
    worst = max(errors.values())
    session.record(
        "correctness",
        case=case,
        dtype=_name(dtype),
        is_accepted=worst <= contract.TOLERANCES[dtype],  # NaN is not
        is_deterministic=is_repeated,
        worst_error=worst,
        errors=errors,
    )


def _rule(rule: str, lengths: list[int], device: torch.device) -> tuple[Visibility | None, Tensor]:
    cu_seqlens = torch.tensor([0, *lengths], device=device).cumsum(0).int()
    if rule == "every pair":
        return None, cu_seqlens
    if rule == "causal":
        return Visibility.causal(cu_seqlens), cu_seqlens
    return pseudo_masked(lengths, device)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
