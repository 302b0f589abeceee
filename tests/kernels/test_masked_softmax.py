"""Masked softmax and what is computed from it: loss, log-likelihoods, the k best ids."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm_kernels import masked_cross_entropy, masked_softmax, token_log_likelihood, top_k
from seqmlm_kernels.allowed import AllowedSets
from seqmlm_kernels.dispatch import select_backend

AssertClose = Callable[..., None]


def bitset(ids: Iterable[int], size: int) -> list[int]:
    """Words of a set, as signed 32-bit integers, by Python's own integer arithmetic."""
    words = [0] * -(-size // 32)
    for i in ids:
        words[i // 32] |= 1 << (i % 32)
    return [word - (1 << 32) if word >= 1 << 31 else word for word in words]


def bitsets(sets: Iterable[Iterable[int]], size: int) -> Tensor:
    return torch.tensor([bitset(ids, size) for ids in sets], dtype=torch.int32)


def projection_of_scores(
    scores: list[float], dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, weight and bias whose scores at row 0 are the given ones."""
    bias = torch.tensor(scores, dtype=dtype)
    return torch.zeros(1, 2, dtype=dtype), torch.ones(len(scores), 2, dtype=dtype), bias


ROW_0 = torch.tensor([0])


def test_loss_is_normaliser_of_allowed_ids_less_the_score(any_backend: str) -> None:
    """exp(score) = 1, 2, 3, 4 with ids 0 and 3 allowed: p(3) = 4 / 5."""
    hidden, weight, bias = projection_of_scores([math.log(x) for x in (1, 2, 3, 4)])
    loss, log_normaliser = masked_cross_entropy(
        hidden,
        weight,
        bias,
        ROW_0,
        torch.tensor([3]),
        allowed=bitsets([{0, 3}], 4),
        backend=any_backend,
    )
    assert loss.item() == pytest.approx(math.log(5 / 4))
    assert log_normaliser.item() == pytest.approx(math.log(5))


def test_loss_without_sets_normalises_over_the_vocabulary(any_backend: str) -> None:
    hidden, weight, bias = projection_of_scores([math.log(x) for x in (1, 2, 3, 4)])
    loss, log_normaliser = masked_cross_entropy(
        hidden, weight, bias, ROW_0, torch.tensor([1]), backend=any_backend
    )
    assert loss.item() == pytest.approx(math.log(5))
    assert log_normaliser.item() == pytest.approx(math.log(10))


def test_leak_shows_in_one_direction_of_the_divergence_only(any_backend: str) -> None:
    """Scores 2, 1, 0 and 5 for a special token: only KL(leaky || masked) is infinite."""
    scores = torch.tensor([[2.0, 1.0, 0.0, 5.0]], dtype=torch.float64)
    masked = masked_softmax(scores, bitsets([{0, 1, 2}], 4), backend=any_backend)
    leaky = masked_softmax(scores, bitsets([{0, 1, 2, 3}], 4), backend=any_backend)
    assert masked[0].tolist() == pytest.approx([0.6652, 0.2447, 0.0900, 0.0], abs=5e-5)
    assert leaky[0].tolist() == pytest.approx([0.0463, 0.0170, 0.0063, 0.9304], abs=5e-5)
    assert masked[0, 3].item() == 0.0

    def divergence(p: Tensor, q: Tensor) -> float:
        return float(torch.where(p > 0, p * (p.log() - q.log()), 0.0).sum())

    assert divergence(leaky, masked) == math.inf
    assert divergence(masked, leaky) == pytest.approx(2.66456, abs=1e-5)
    assert divergence(masked, leaky) == pytest.approx(-math.log(1 - leaky[0, 3].item()))


@pytest.mark.parametrize("size", [1, 31, 32, 33, 64, 65])
def test_every_single_id_can_be_the_only_allowed_one(any_backend: str, size: int) -> None:
    scores = torch.zeros(size, size)
    allowed = bitsets([{i} for i in range(size)], size)
    probabilities = masked_softmax(
        scores, allowed, allowed_index=torch.arange(size), backend=any_backend
    )
    assert torch.equal(probabilities, torch.eye(size))


def test_sign_bit_is_id_31(any_backend: str) -> None:
    allowed = torch.tensor([[-(2**31)]], dtype=torch.int32)
    probabilities = masked_softmax(torch.zeros(1, 32), allowed, backend=any_backend)
    assert probabilities.nonzero().tolist() == [[0, 31]]


def test_bits_past_the_vocabulary_are_not_read(any_backend: str) -> None:
    every_bit = torch.tensor([[-1, -1]], dtype=torch.int32)
    probabilities = masked_softmax(torch.zeros(1, 33), every_bit, backend=any_backend)
    assert probabilities[0].tolist() == pytest.approx([1 / 33] * 33)


def test_softmax_of_an_empty_set_is_all_zeros_without_gradient(any_backend: str) -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], requires_grad=True)
    allowed = bitsets([set(), {0, 2}], 3)
    probabilities = masked_softmax(
        scores, allowed, allowed_index=torch.tensor([0, 1]), backend=any_backend
    )
    torch.autograd.backward(probabilities[:, 2].sum())
    assert probabilities[0].tolist() == [0.0, 0.0, 0.0]
    assert scores.grad is not None
    assert scores.grad[0].tolist() == [0.0, 0.0, 0.0]
    assert scores.grad[1, 1].item() == 0.0
    assert scores.grad[1, 2].item() > 0.0


def test_empty_set_gives_no_loss_and_no_gradient(any_backend: str) -> None:
    hidden = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.ones(5, 4, requires_grad=True)
    bias = torch.zeros(5, requires_grad=True)
    loss, log_normaliser = masked_cross_entropy(
        hidden,
        weight,
        bias,
        torch.tensor([1]),
        torch.tensor([2]),
        allowed=bitsets([set()], 5),
        backend=any_backend,
    )
    assert loss.tolist() == [0.0]
    assert log_normaliser.tolist() == [-math.inf]
    torch.autograd.backward(loss.sum() + log_normaliser.exp().sum())
    for x in (hidden, weight, bias):
        assert x.grad is not None
        assert x.grad.eq(0).all()


def test_unchecked_target_outside_its_set_has_no_loss_but_its_normaliser(any_backend: str) -> None:
    """On a GPU targets are not checked, so every backend must define what such a one gives."""
    hidden, weight, bias = projection_of_scores([math.log(x) for x in (1, 2, 3, 4)])
    bias.requires_grad_()
    loss, log_normaliser = select_backend(any_backend, hidden.device).masked_cross_entropy(
        hidden, weight, bias, ROW_0, torch.tensor([1]), AllowedSets(bitsets([{0, 3}], 4), None)
    )
    assert loss.item() == 0.0
    assert log_normaliser.item() == pytest.approx(math.log(5))
    torch.autograd.backward(loss.sum())
    assert bias.grad is not None
    assert bias.grad.tolist() == [0.0, 0.0, 0.0, 0.0]


def test_no_predictions_give_an_empty_loss_with_its_graph(any_backend: str) -> None:
    hidden = torch.randn(3, 4, requires_grad=True)
    weight = torch.randn(5, 4, requires_grad=True)
    nothing = torch.empty(0, dtype=torch.int32)
    loss, _ = masked_cross_entropy(
        hidden, weight, None, nothing, nothing, allowed=bitsets([{1}], 5), backend=any_backend
    )
    assert loss.shape == (0,)
    torch.autograd.backward(loss.sum())
    assert hidden.grad is not None
    assert weight.grad is not None
    assert not hidden.grad.any()
    assert not weight.grad.any()


def test_no_predictions_have_no_likelihoods_and_no_best_ids(any_backend: str) -> None:
    hidden, weight = torch.randn(3, 4), torch.randn(5, 4)
    nothing = torch.empty(0, dtype=torch.int64)
    pairs = nothing.view(0, 2)
    assert token_log_likelihood(
        hidden, weight, None, nothing, pairs, backend=any_backend
    ).shape == (0, 2)
    values, ids = top_k(hidden, weight, None, nothing, 3, backend=any_backend)
    assert values.shape == ids.shape == (0, 3)


@dataclass(frozen=True)
class Case:
    tokens: int
    predictions: int
    vocabulary: int
    sets: int | None  # None: every id is allowed
    has_bias: bool
    seed: int


cases = st.builds(
    Case,
    tokens=st.integers(1, 6),
    predictions=st.integers(0, 7),
    vocabulary=st.sampled_from([1, 5, 31, 32, 33, 64, 70]),
    sets=st.none() | st.integers(1, 3),
    has_bias=st.booleans(),
    seed=st.integers(0, 2**31),
)


def tensors_of(case: Case) -> tuple[tuple[Tensor, Tensor, Tensor | None], dict[str, Any]]:
    """fp64 (hidden, weight, bias); rows, targets, and the allowed sets where there are any."""
    generator = torch.Generator().manual_seed(case.seed)
    hidden = torch.randn(case.tokens, 6, dtype=torch.float64, generator=generator)
    weight = torch.randn(case.vocabulary, 6, dtype=torch.float64, generator=generator)
    bias = torch.randn(case.vocabulary, dtype=torch.float64, generator=generator)

    def draw(high: int) -> Tensor:
        return torch.randint(0, high, (case.predictions,), generator=generator).int()

    arguments = {"rows": draw(case.tokens), "targets": draw(case.vocabulary)}
    if case.sets is not None:
        index = draw(case.sets)
        members = torch.rand(case.sets, case.vocabulary, generator=generator) < 0.4
        members[index.long(), arguments["targets"].long()] = True
        arguments["allowed"] = bitsets(
            [m.nonzero().flatten().tolist() for m in members], case.vocabulary
        )
        arguments["allowed_index"] = index
    return (hidden, weight, bias if case.has_bias else None), arguments


def loss_and_gradients(
    case: Case, dtype: torch.dtype, backend: str, *, rounded_to: torch.dtype
) -> list[Tensor]:
    """Loss, normaliser and gradients of a random combination of both."""
    tensors, arguments = tensors_of(case)
    leaves = [
        None if x is None else x.to(rounded_to).to(dtype, copy=True).requires_grad_()
        for x in tensors
    ]
    hidden, weight, bias = leaves
    assert hidden is not None
    assert weight is not None
    loss, log_normaliser = masked_cross_entropy(hidden, weight, bias, **arguments, backend=backend)
    factors = torch.linspace(0.5, 2.0, case.predictions, dtype=loss.dtype)
    torch.autograd.backward((loss * factors + log_normaliser * factors.flip(0)).sum())
    gradients = [x.grad for x in leaves if x is not None]
    return [loss.detach(), log_normaliser.detach(), *(g for g in gradients if g is not None)]


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16], ids=["fp64", "fp32", "bf16"]
)
@settings(max_examples=50, deadline=None)
@given(case=cases)
def test_loss_and_gradients_match_reference(
    backend: str, assert_close: AssertClose, dtype: torch.dtype, case: Case
) -> None:
    expected = loss_and_gradients(case, torch.float64, "reference", rounded_to=dtype)
    actual = loss_and_gradients(case, dtype, backend, rounded_to=dtype)
    assert actual[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert len(actual) == len(expected) == (5 if case.has_bias else 4)
    for number, (found, wanted) in enumerate(zip(actual, expected, strict=True)):
        assert_close(found, wanted, "value" if number < 2 else "gradient", dtype)


def test_loss_gradients_match_finite_differences(any_backend: str) -> None:
    tensors, arguments = tensors_of(Case(4, 5, 33, 2, True, 0))

    def run(hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return masked_cross_entropy(hidden, weight, bias, **arguments, backend=any_backend)

    leaves = [x.requires_grad_() for x in tensors if x is not None]
    assert torch.autograd.gradcheck(run, leaves)


def test_softmax_gradients_match_finite_differences(any_backend: str) -> None:
    scores = torch.randn(3, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    allowed = bitsets([{0, 3, 31, 32}, set()], 33)

    def run(x: Tensor) -> Tensor:
        return masked_softmax(
            x, allowed, allowed_index=torch.tensor([0, 1, 0]), backend=any_backend
        )

    assert torch.autograd.gradcheck(run, (scores.requires_grad_(),))


@settings(max_examples=40, deadline=None)
@given(case=cases, k=st.integers(1, 5))
def test_likelihoods_and_best_ids_match_reference(
    backend: str, assert_close: AssertClose, case: Case, k: int
) -> None:
    (hidden, weight, bias), arguments = tensors_of(case)
    rows, targets = arguments.pop("rows"), arguments.pop("targets")
    every_id = torch.arange(case.vocabulary).expand(case.predictions, -1)
    for ids in (targets, every_id):
        actual, expected = (
            token_log_likelihood(hidden, weight, bias, rows, ids, **arguments, backend=name)
            for name in (backend, "reference")
        )
        assert actual.shape == ids.shape
        assert_close(actual, expected, "value", torch.float64)
    k = min(k, case.vocabulary)
    actual_best, expected_best = (
        top_k(hidden, weight, bias, rows, k, **arguments, backend=name)
        for name in (backend, "reference")
    )
    assert_close(actual_best[0], expected_best[0], "value", torch.float64)
    assert torch.equal(actual_best[1], expected_best[1])


def test_likelihood_is_minus_the_loss(any_backend: str) -> None:
    (hidden, weight, bias), arguments = tensors_of(Case(4, 6, 33, 2, True, 1))
    loss, _ = masked_cross_entropy(hidden, weight, bias, **arguments, backend=any_backend)
    ids = arguments.pop("targets")
    likelihood = token_log_likelihood(
        hidden, weight, bias, token_ids=ids, **arguments, backend=any_backend
    )
    assert likelihood.tolist() == pytest.approx((-loss).tolist())


def test_id_that_is_not_allowed_has_likelihood_zero(any_backend: str) -> None:
    hidden, weight, bias = projection_of_scores([0.0, 9.0, 0.0])
    likelihood = token_log_likelihood(
        hidden,
        weight,
        bias,
        ROW_0,
        torch.tensor([[0, 1, 2]]),
        allowed=bitsets([{0, 2}], 3),
        backend=any_backend,
    )
    assert likelihood[0].tolist() == pytest.approx([-math.log(2), -math.inf, -math.log(2)])


def test_equal_probabilities_are_ranked_by_lowest_id(any_backend: str) -> None:
    hidden, weight, bias = projection_of_scores([1.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    _, ids = top_k(hidden, weight, bias, ROW_0, 5, backend=any_backend)
    assert ids.tolist() == [[1, 3, 5, 0, 2]]


def test_ties_at_the_cut_keep_the_lowest_ids(any_backend: str) -> None:
    """Wide enough for torch.topk to return ties in an order of its own."""
    hidden, weight, bias = projection_of_scores([0.0] * 1000)
    _, ids = top_k(hidden, weight, bias, ROW_0, 4, backend=any_backend)
    assert ids.tolist() == [[0, 1, 2, 3]]


def test_ranks_past_the_allowed_ids_are_minus_infinity(any_backend: str) -> None:
    hidden, weight, bias = projection_of_scores([0.0, 9.0, 0.0, 9.0])
    values, ids = top_k(
        hidden, weight, bias, ROW_0, 3, allowed=bitsets([{0, 2}], 4), backend=any_backend
    )
    assert values[0].tolist() == pytest.approx([-math.log(2), -math.log(2), -math.inf])
    assert ids[0, :2].tolist() == [0, 2]


def test_nothing_allowed_gives_minus_infinity_not_nan(any_backend: str) -> None:
    hidden, weight, bias = projection_of_scores([0.0, 1.0])
    values, _ = top_k(
        hidden, weight, bias, ROW_0, 2, allowed=bitsets([set()], 2), backend=any_backend
    )
    assert values.tolist() == [[-math.inf, -math.inf]]


def test_chunks_of_the_vocabulary_product_do_not_show(
    monkeypatch: pytest.MonkeyPatch, assert_close: AssertClose
) -> None:
    (hidden, weight, bias), arguments = tensors_of(Case(6, 7, 33, 3, True, 2))
    rows, targets = arguments.pop("rows"), arguments.pop("targets")
    whole = token_log_likelihood(hidden, weight, bias, rows, targets, **arguments)
    whole_best = top_k(hidden, weight, bias, rows, 4, **arguments)
    monkeypatch.setattr("seqmlm_kernels.torch_backend._SCORES_PER_CHUNK", 3 * 33)
    chunked = token_log_likelihood(hidden, weight, bias, rows, targets, **arguments)
    chunked_best = top_k(hidden, weight, bias, rows, 4, **arguments)
    assert_close(chunked, whole, "value", torch.float64)
    assert_close(chunked_best[0], whole_best[0], "value", torch.float64)
    assert torch.equal(chunked_best[1], whole_best[1])


def test_autocast_projects_in_bf16_and_normalises_in_fp32(
    any_backend: str, assert_close: AssertClose
) -> None:
    (hidden, weight, bias), arguments = tensors_of(Case(4, 6, 33, 2, True, 3))
    assert bias is not None
    leaves = [hidden.bfloat16().requires_grad_(), weight.float().requires_grad_(), bias.float()]
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = masked_cross_entropy(*leaves, **arguments, backend=any_backend)
    torch.autograd.backward(loss.sum())
    assert loss.dtype == torch.float32
    assert leaves[1].grad is not None
    assert leaves[1].grad.dtype == torch.float32
    rounded = [x.detach().bfloat16().double() for x in leaves]
    expected, _ = masked_cross_entropy(*rounded, **arguments, backend="reference")
    assert_close(loss, expected, "value", torch.bfloat16)
