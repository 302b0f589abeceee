"""Attention as operators of torch: what is launched, traced, compiled, and run on a bare CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmlm_kernels import BackendUnavailableError, attention
from seqmlm_kernels.triton import attention as launcher
from seqmlm_kernels.triton import attention_closed_form
from tests.kernels.test_attention import (
    Case,
    assert_matches_reference,
    boundaries_of,
    output_and_gradients,
    tensors_of,
)

AssertClose = Callable[..., None]
each_backward = pytest.mark.parametrize("backward", ["deterministic", "atomic"])


def test_repeated_runs_are_bit_equal() -> None:
    tensors, arguments = tensors_of(Case([70, 9], visibility="pseudo_masked", window=30))
    first = output_and_gradients(tensors, arguments, torch.float32, "triton")
    second = output_and_gradients(tensors, arguments, torch.float32, "triton")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("backward", "launched"),
    [
        ("deterministic", ["launch_backward_queries", "launch_backward_keys"]),
        ("atomic", ["launch_backward_atomic"]),
    ],
    ids=["deterministic", "atomic"],
)
def test_backward_launches_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, backward: str, launched: list[str]
) -> None:
    calls: list[str] = []

    def record(name: str, launch: Callable[..., Any], *arguments: Any) -> Any:
        calls.append(name)
        return launch(*arguments)

    for name in ("launch_backward_queries", "launch_backward_keys", "launch_backward_atomic"):
        monkeypatch.setattr(launcher, name, partial(record, name, getattr(launcher, name)))
    tensors, arguments = tensors_of(Case([3], backward=backward))
    output_and_gradients(tensors, arguments, torch.float32, "triton")
    assert calls == launched


@pytest.mark.parametrize(
    ("dtype", "head_dim"), [(torch.float64, 8), (torch.float32, 512)], ids=["fp64", "head_dim"]
)
def test_what_the_kernels_do_not_have_is_refused(dtype: torch.dtype, head_dim: int) -> None:
    q = torch.zeros(2, 1, head_dim, dtype=dtype)
    with pytest.raises(BackendUnavailableError, match=r"head dimensions from 1 to 256.*'torch'"):
        attention(q, q, q, cu_seqlens=boundaries_of([2]), max_seqlen=2, backend="triton")


def operator_arguments(case: Case, backward: str) -> tuple[Any, ...]:
    (q, k, v, _), arguments = tensors_of(case)
    visibility = arguments["visibility"]
    q, k, v = (x.float().requires_grad_() for x in (q, k, v))
    return (
        q, k, v, arguments["cu_seqlens"], visibility.step, visibility.reach, visibility.group,
        arguments["positions"], case.window, arguments["max_seqlen"], 0.5, backward,
    )  # fmt: skip


@each_backward
def test_operators_pass_opcheck(backward: str) -> None:
    arguments = operator_arguments(
        Case([4, 2], kv_heads=1, visibility="causal", window=3, given_positions=True), backward
    )
    torch.library.opcheck(launcher.attention_forward, arguments)
    with torch.no_grad():
        output, log_sum = launcher.attention_forward(*arguments)
        inputs = (output.clone(), *arguments[:3], output, log_sum, *arguments[3:])
    detached = tuple(x.detach() if isinstance(x, Tensor) else x for x in inputs)
    torch.library.opcheck(launcher.attention_backward, detached)


@each_backward
def test_compiled_function_gives_the_same_numbers(backward: str) -> None:
    tensors, arguments = tensors_of(Case([9, 4], visibility="causal", backward=backward))

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q * 2, k, v, **arguments, backend="triton") + 1

    results = []
    for function in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
        operands = [x.float().requires_grad_() for x in tensors[:3]]
        output = function(*operands)
        torch.autograd.backward(output, tensors[3].float())
        results.append([output, *(x.grad for x in operands)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_gradient_checkpointing_gives_the_same_numbers() -> None:
    tensors, arguments = tensors_of(Case([9, 4], visibility="causal"))

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k, v, **arguments, backend="triton")

    results = []
    for checkpointed in (False, True):
        operands = [x.float().requires_grad_() for x in tensors[:3]]
        output = (
            torch.utils.checkpoint.checkpoint(run, *operands, use_reentrant=False)
            if checkpointed
            else run(*operands)
        )
        torch.autograd.backward(output, tensors[3].float())
        results.append([x.grad for x in operands])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_autocast_casts_to_its_dtype(assert_close: AssertClose) -> None:
    (q, k, v, _), arguments = tensors_of(Case([6, 3], visibility="causal"))
    with torch.autocast("cpu", torch.bfloat16):
        output = attention(q.float(), k.float(), v.float(), **arguments, backend="triton")
    assert output.dtype == torch.bfloat16
    rounded = (x.bfloat16().double() for x in (q, k, v))
    expected = attention(*rounded, **arguments, backend="reference")
    assert_close(output, expected, "value", torch.bfloat16)


@pytest.mark.parametrize(
    "case",
    [
        Case([5, 0, 3], kv_heads=2, heads_per_kv_head=3, visibility="pseudo_masked", scale=-0.7),
        Case([6, 1], visibility="causal", window=2, given_positions=True),
        Case([4, 4], window=1, backward="atomic"),
    ],
    ids=["visibility", "both", "window"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_operators_run_on_a_cpu_without_the_interpreter(
    monkeypatch: pytest.MonkeyPatch, assert_close: AssertClose, case: Case, dtype: torch.dtype
) -> None:
    """Chunks are of one query, so that gradients of keys are summed over several."""
    monkeypatch.setattr(launcher, "INTERPRETED", False)
    monkeypatch.setattr(launcher, "_launch_forward", None)
    monkeypatch.setattr(launcher, "_launch_backward", None)
    monkeypatch.setattr(attention_closed_form, "_SCORES_PER_CHUNK", 1)
    assert_matches_reference(case, dtype, "triton", assert_close)


def test_operators_on_a_cpu_pass_opcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "INTERPRETED", False)
    arguments = operator_arguments(Case([4, 2], kv_heads=1, visibility="causal"), "deterministic")
    torch.library.opcheck(launcher.attention_forward, arguments)
    nothing = torch.full((6,), -1, dtype=torch.int32)
    output, log_sum = launcher.attention_forward(
        *arguments[:4], nothing + 1, nothing, nothing, *arguments[7:]
    )
    assert output.eq(0).all()
    assert log_sum.isneginf().all()
