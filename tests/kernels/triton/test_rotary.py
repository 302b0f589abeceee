"""The rotary kernel, interpreted, against the reference in fp64."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm_kernels import BackendUnavailableError, rotary, rotary_table
from seqmlm_kernels.triton.rotary import rotate
from tests.kernels.triton.ahead_of_time import Compiled
from tests.kernels.triton.guarded_memory import guarded_allocations
from tests.kernels.triton.rotary_variants import VARIANTS

AssertClose = Callable[..., None]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def operands(
    tokens: int, heads: int, kv_heads: int, head_dim: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k in fp64 and positions."""
    generator = torch.Generator().manual_seed(seed)
    q, k = (
        torch.randn(tokens, count, head_dim, dtype=torch.float64, generator=generator)
        for count in (heads, kv_heads)
    )
    return q, k, torch.randint(0, 99, (tokens,), generator=generator)


def turned_with_gradients(
    q: Tensor, k: Tensor, table: Tensor, dtype: torch.dtype, backend: str
) -> list[Tensor]:
    """Rotated q and k, then the gradients of the sum of their cubes' thirds."""
    leaves = [x.to(dtype, copy=True).requires_grad_() for x in (q, k)]
    positions = torch.arange(len(q))
    rotated = rotary(leaves[0], leaves[1], positions, table=table, backend=backend)
    torch.autograd.backward(rotated, [(x.detach() ** 2).to(dtype) for x in rotated])
    return [*(x.detach() for x in rotated), *(x.grad for x in leaves if x.grad is not None)]


@pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "fp16", "bf16"])
@settings(max_examples=15, deadline=None)
@given(
    tokens=st.integers(0, 5),
    kv_heads=st.integers(1, 3),
    heads_per_kv_head=st.integers(1, 3),
    head_dim=st.sampled_from([2, 6, 32, 96]),
    seed=st.integers(0, 2**31),
)
def test_rotation_and_gradients_match_reference(
    assert_close: AssertClose,
    dtype: torch.dtype,
    tokens: int,
    kv_heads: int,
    heads_per_kv_head: int,
    head_dim: int,
    seed: int,
) -> None:
    q, k, positions = operands(tokens, kv_heads * heads_per_kv_head, kv_heads, head_dim, seed)
    table = rotary_table(positions, head_dim)
    q, k = (x.to(dtype).double() for x in (q, k))
    with guarded_allocations() as check:
        actual = turned_with_gradients(q, k, table, dtype, "triton")
        check()
    expected = turned_with_gradients(q, k, table.double(), torch.float64, "reference")
    for found, wanted in zip(actual, expected, strict=True):
        assert found.dtype == dtype
        assert_close(found, wanted, "gradient", dtype)


def test_more_heads_than_a_program_takes_match_reference(assert_close: AssertClose) -> None:
    """At head dimension 256 a program turns 8 heads, of which a token has 14."""
    q, k, positions = operands(2, 11, 3, 256)
    actual = rotary(q.float(), k.float(), positions, backend="triton")
    for found, wanted in zip(actual, rotary(q, k, positions, backend="reference"), strict=True):
        assert_close(found, wanted, "value", torch.float32)


def test_queries_and_keys_are_turned_in_one_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five tokens of six heads, 32 heads of 32 pairs a program: forward, then backward."""
    from seqmlm_kernels.triton import rotary as module

    launches = []
    interface = type(module.rotate_kernel)
    run = interface.run

    def record(self: object, *args: object, **kwargs: object) -> object:
        launches.append(kwargs["grid"])
        return run(self, *args, **kwargs)

    monkeypatch.setattr(interface, "run", record)
    q, k, positions = operands(6, 4, 2, 64)
    turned_with_gradients(q, k, rotary_table(positions, 64), torch.float32, "triton")
    assert launches == [(2,), (2,)]


def test_each_operand_keeps_its_dtype(assert_close: AssertClose) -> None:
    q, k, positions = operands(3, 2, 1, 8)
    found = rotary(q.float(), k.half(), positions, backend="triton")
    assert [x.dtype for x in found] == [torch.float32, torch.float16]
    expected = rotary(q, k.half().double(), positions, backend="reference")
    for turned, wanted in zip(found, expected, strict=True):
        assert_close(turned, wanted, "value", turned.dtype)


def test_slices_of_one_projection_are_read_in_place() -> None:
    q, k, positions = operands(4, 2, 2, 8)
    fused = torch.stack((q, k), dim=1).float()
    expected = rotary(q.float(), k.float(), positions, backend="triton")
    found = rotary(fused[:, 0], fused[:, 1], positions, backend="triton")
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_turning_back_restores_the_operands(assert_close: AssertClose) -> None:
    q, k, positions = operands(3, 2, 1, 8)
    table = rotary_table(positions, 8)
    there = rotate(q.float(), k.float(), table, 1)
    for found, wanted in zip(rotate(*there, table, -1), (q, k), strict=True):
        assert_close(found, wanted, "value", torch.float32)


def test_heads_more_than_two_to_the_31_numbers_apart_are_read() -> None:
    """A [H, T, D] tensor seen as [T, H, D]; of its 4 GiB a few pages are ever touched."""
    head_stride = 2**30
    memory = mmap.mmap(-1, 2 * (2 * head_stride + 32), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    storage = torch.frombuffer(memory, dtype=torch.float16)
    q, k, positions = operands(2, 3, 1, 16)
    strided = storage.as_strided((2, 3, 16), (16, head_stride, 1)).copy_(q)
    found = rotary(strided, k.half(), positions, backend="triton")
    expected = rotary(q.half(), k.half(), positions, backend="triton")
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_cpu_without_interpreter_rotates_in_torch(
    monkeypatch: pytest.MonkeyPatch, assert_close: AssertClose
) -> None:
    """A graph that was traced on a GPU runs there, forward and backward."""
    from seqmlm_kernels.triton import rotary as module

    monkeypatch.setattr(module, "INTERPRETED", False)
    monkeypatch.delattr(module, "rotate_kernel")
    q, k, positions = operands(4, 2, 1, 8)
    table = rotary_table(positions, 8)
    expected = turned_with_gradients(q, k, table.double(), torch.float64, "reference")
    leaves = [x.float().requires_grad_() for x in (q, k)]
    rotated = rotate(*leaves, table, 1)
    torch.autograd.backward(rotated, [x.detach() ** 2 for x in rotated])
    found = [*(x.detach() for x in rotated), *(x.grad for x in leaves)]
    for actual, wanted in zip(found, expected, strict=True):
        assert_close(actual, wanted, "gradient", torch.float32)


def test_double_precision_is_refused() -> None:
    q, k, positions = operands(3, 2, 1, 8)
    with pytest.raises(BackendUnavailableError, match=r"rotary on q of torch\.float64.*'torch'"):
        rotary(q, k, positions, backend="triton")


def test_operator_passes_opcheck() -> None:
    q, k, positions = operands(3, 2, 1, 8)
    arguments = (q.float().requires_grad_(), k.float().requires_grad_())
    torch.library.opcheck(rotate, (*arguments, rotary_table(positions, 8), 1))


def test_compiled_function_gives_the_same_numbers() -> None:
    q, k, positions = operands(3, 2, 1, 8)

    def run(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return rotary(q * 2, k, positions, backend="triton")

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    for found, wanted in zip(
        compiled(q.float(), k.float()), run(q.float(), k.float()), strict=True
    ):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", [variant.name for variant in VARIANTS])
def test_compiled_kernel_needs_few_registers_and_no_stack(
    name: str, compiled: Mapping[str, Compiled]
) -> None:
    result = compiled[name]
    if result.registers is not None:
        assert result.registers <= 64
        assert result.stack_bytes == 0
