"""A contiguous range of allowed ids, against the bitset that holds the same ids."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm_kernels import (
    masked_cross_entropy,
    masked_softmax,
    rejected_targets,
    token_log_likelihood,
    top_k,
)

ranges = st.tuples(st.integers(0, 70), st.integers(0, 70)).filter(lambda ends: ends[0] <= ends[1])


def operands() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, a projection onto 70 ids with a bias, and rows; double precision."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, generator=generator)
        for shape in ((4, 6), (70, 6), (70,))
    )
    return hidden, weight, bias, torch.tensor([3, 0, 0, 1, 2])


def bitset(first: int, stop: int) -> Tensor:
    """The same ids in the words of 70: ``((1 << stop) - (1 << first))`` in pieces of 32 bits."""
    bits = (1 << stop) - (1 << first)
    words = [bits >> shift & 0xFFFFFFFF for shift in (0, 32, 64)]
    return torch.tensor([[word - (word >> 31 << 32) for word in words]], dtype=torch.int32)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ends=ranges)
def test_loss_and_gradients_are_those_of_the_bitset(
    any_backend: str, ends: tuple[int, int]
) -> None:
    hidden, weight, bias, rows = operands()
    first, stop = ends
    targets = (first + torch.arange(5) % max(1, stop - first)).clamp(max=69)

    def results(allowed: Tensor | tuple[int, int]) -> tuple[Tensor, ...]:
        leaves = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
        loss, log_normaliser = masked_cross_entropy(
            leaves[0], leaves[1], leaves[2], rows, targets, allowed=allowed, backend=any_backend
        )
        total = (loss * torch.arange(1, 6)).sum()
        if first < stop:  # else the normaliser, and what comes from above, is infinite
            total = total + log_normaliser.square().sum()
        return loss.detach(), log_normaliser.detach(), *torch.autograd.grad(total, leaves)

    for found, expected in zip(results(ends), results(bitset(*ends)), strict=True):
        torch.testing.assert_close(found, expected)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ends=ranges, k=st.integers(1, 70))
def test_likelihoods_and_best_ids_are_those_of_the_bitset(
    any_backend: str, ends: tuple[int, int], k: int
) -> None:
    token_ids = torch.arange(70).expand(5, -1)
    found, expected = (
        (
            token_log_likelihood(*operands(), token_ids, allowed=allowed, backend=any_backend),
            *top_k(*operands(), k, allowed=allowed, backend=any_backend),
        )
        for allowed in (ends, bitset(*ends))
    )
    torch.testing.assert_close(found[:2], expected[:2])
    is_id = expected[1].isfinite()
    assert torch.equal(found[2][is_id], expected[2][is_id])


def test_unchecked_target_outside_the_range_has_no_loss_and_is_counted(
    any_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: exp(score) = 1, 2, 3, 4 with ids 1 and 2 allowed, target 3 and then 2."""
    monkeypatch.setattr("seqmlm_kernels.checks._values_are_checked", lambda tensor: False)
    rejected = rejected_targets(torch.device("cpu")).zero_()
    bias = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).log()
    hidden, weight = (torch.zeros(size, 2, dtype=torch.float64) for size in (1, 4))
    rows = torch.tensor([0, 0])
    loss, log_normaliser = masked_cross_entropy(
        hidden, weight, bias, rows, torch.tensor([3, 2]), allowed=(1, 3), backend=any_backend
    )
    assert loss.tolist() == pytest.approx([0.0, math.log(5 / 3)])
    assert log_normaliser.tolist() == pytest.approx([math.log(5)] * 2)
    assert rejected.item() == 1


@pytest.mark.parametrize(
    ("allowed", "index", "error", "message"),
    [
        ((6, 5), None, ValueError, r"allowed is \(6, 5\); .* 0 <= first <= stop <= 70"),
        ((True, 3), None, TypeError, r"allowed is \(True, 3\); .* two integers"),
        ((-1, 5), None, ValueError, r"allowed is \(-1, 5\)"),
        ((0, 71), None, ValueError, r"allowed is \(0, 71\)"),
        ((0, 1.5), None, TypeError, r"allowed is \(0, 1\.5\); .* two integers"),
        ((1, 2, 3), None, TypeError, r"two integers, \(first, stop\)"),
        ((0, 9), torch.zeros(5, dtype=torch.int32), ValueError, "allowed_index was given"),
        ((0, 4), None, ValueError, r"targets\[4\] is 4; allowed is the range \(0, 4\).*1 of 5"),
    ],
    ids=str,
)
def test_range_that_cannot_be_used_is_refused(
    allowed: tuple[int, int], index: Tensor | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        masked_cross_entropy(*operands(), torch.arange(5), allowed=allowed, allowed_index=index)


@pytest.mark.parametrize("ends", [(0, 0), (5, 5), (70, 70)], ids=str)
def test_range_without_ids_has_no_loss_and_no_gradient(
    any_backend: str, ends: tuple[int, int]
) -> None:
    hidden, weight, bias, rows = operands()
    hidden.requires_grad_()
    rejected = rejected_targets(torch.device("cpu")).zero_()
    loss, log_normaliser = masked_cross_entropy(
        hidden, weight, bias, rows, torch.arange(5), allowed=ends, backend=any_backend
    )
    (gradient,) = torch.autograd.grad(loss.sum(), hidden)
    assert loss.eq(0).all()
    assert log_normaliser.isneginf().all()
    assert gradient.eq(0).all()
    assert rejected.item() == 0  # nothing could have been predicted, as with an empty bitset
    values, _ = top_k(*operands(), 3, allowed=ends, backend=any_backend)
    assert values.isneginf().all()


def test_softmax_over_a_range_is_refused_with_what_to_use_instead() -> None:
    with pytest.raises(TypeError, match=r"allowed is \(0, 4\); .* bitsets .*\.softmax\(-1\)"):
        masked_softmax(torch.zeros(2, 70), (0, 4))  # type: ignore[arg-type]
