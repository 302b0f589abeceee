"""Rotary position embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm_kernels import rotary, rotary_table

AssertClose = Callable[..., None]


def random_heads(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def test_pairs_are_half_a_head_apart_and_turn_by_their_own_frequency(any_backend: str) -> None:
    """D = 4, base 100: columns (0, 2) turn by 1 and (1, 3) by 1/10 radian per position."""
    q = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    rotated, _ = rotary(q, q, torch.tensor([3]), base=100.0, backend=any_backend)
    expected = [math.cos(3.0), math.cos(0.3), math.sin(3.0), math.sin(0.3)]
    assert rotated.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_position_zero_leaves_vectors_unchanged(any_backend: str) -> None:
    q, k = random_heads(2, 3, 8), random_heads(2, 1, 8, seed=1)
    rotated_q, rotated_k = rotary(q, k, torch.tensor([0, 0]), backend=any_backend)
    assert torch.equal(rotated_q, q)
    assert torch.equal(rotated_k, k)


@settings(max_examples=30, deadline=None)
@given(first=st.integers(0, 500), second=st.integers(0, 500), shift=st.integers(0, 500))
def test_products_depend_on_the_difference_of_positions_alone(
    backend: str, first: int, second: int, shift: int
) -> None:
    q = random_heads(2, 1, 8)

    def product(*positions: int) -> float:
        rotated, _ = rotary(q, q, torch.tensor(positions), backend=backend)
        return float((rotated[0] * rotated[1]).sum())

    shifted = product(first + shift, second + shift)
    assert shifted == pytest.approx(product(first, second), abs=2e-3)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16], ids=["fp64", "fp32", "bf16"]
)
def test_rotation_and_gradients_match_reference(
    backend: str, assert_close: AssertClose, dtype: torch.dtype
) -> None:
    positions = torch.arange(17, dtype=torch.int32)

    def run(name: str, compute_dtype: torch.dtype) -> list[Tensor]:
        q = random_heads(17, 4, 6, dtype=dtype).to(compute_dtype, copy=True).requires_grad_()
        k = random_heads(17, 2, 6, seed=1, dtype=dtype).to(compute_dtype).requires_grad_()
        rotated_q, rotated_k = rotary(q, k, positions, backend=name)
        loss = rotated_q.square().sum() + (rotated_k * k.detach().flip(0)).sum()
        torch.autograd.backward(loss)
        assert q.grad is not None
        assert k.grad is not None
        return [rotated_q.detach(), rotated_k.detach(), q.grad, k.grad]

    actual, expected = run(backend, dtype), run("reference", torch.float64)
    for number, (found, wanted) in enumerate(zip(actual, expected, strict=True)):
        assert found.dtype == dtype
        assert_close(found, wanted, "value" if number < 2 else "gradient", dtype)


def test_shared_table_gives_the_same_bits(any_backend: str) -> None:
    q, k, positions = random_heads(5, 2, 8), random_heads(5, 1, 8), torch.arange(5)
    table = rotary_table(positions, 8, base=500.0)
    assert table.shape == (2, 5, 8)
    assert table.dtype == torch.float32
    with_table = rotary(q, k, positions, table=table, backend=any_backend)
    without = rotary(q, k, positions, base=500.0, backend=any_backend)
    for one, other in zip(with_table, without, strict=True):
        assert torch.equal(one, other)


def test_gradients_match_finite_differences(any_backend: str) -> None:
    positions = torch.tensor([0, 4, 2])

    def run(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return rotary(q, k, positions, backend=any_backend)

    q, k = random_heads(3, 2, 4).requires_grad_(), random_heads(3, 1, 4).requires_grad_()
    assert torch.autograd.gradcheck(run, (q, k))


def test_given_frequencies_replace_those_of_the_base() -> None:
    """Base 16 and D = 4 make 16 ** 0 and 16 ** -0.5."""
    positions = torch.tensor([0, 3], dtype=torch.int32)
    given = rotary_table(positions, 4, frequencies=(1.0, 0.25))
    torch.testing.assert_close(given, rotary_table(positions, 4, base=16.0))
    with pytest.raises(ValueError, match="frequencies: 1 for 2 pairs"):
        rotary_table(positions, 4, frequencies=(1.0,))
