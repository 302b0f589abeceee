"""The backward over a small vocabulary in one kernel, interpreted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqmlm_kernels import reference
from seqmlm_kernels.allowed import AllowedSets
from tests.kernels.triton.projection_cases import (
    DTYPES,
    Case,
    Operands,
    cross_entropy,
    loss_and_gradients,
    operands_of,
    packed,
)

AssertClose = Callable[..., None]
PROTEIN = Case(predictions=37, vocabulary=33, hidden_size=40, sets=3, has_bias=True, tokens=29)


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Shares of the predictions in each backward that ran as one kernel."""
    from seqmlm_kernels.triton import one_pass, projection_backward

    found: list[int] = []
    run = one_pass.gradients_in_one_pass

    def record(plan: Any, *arguments: Any, **options: Any) -> Any:
        found.append(plan.splits)
        return run(plan, *arguments, **options)

    monkeypatch.setattr(projection_backward, "gradients_in_one_pass", record)
    return found


@pytest.fixture
def many_multiprocessors(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were 64 and memory were free: a small product is else not worth a share."""
    from seqmlm_kernels.triton import projection_launch, projection_plan

    monkeypatch.setattr(projection_launch, "multiprocessors_of", lambda device: 64)
    monkeypatch.setattr(projection_plan, "FLOP_PER_BYTE", 0)


def assert_matches_reference(
    assert_close: AssertClose, operands: Operands, dtype: torch.dtype, nearest: torch.dtype
) -> None:
    actual = loss_and_gradients(cross_entropy, operands, dtype)
    expected = loss_and_gradients(reference.masked_cross_entropy, operands, torch.float64)
    assert {x.dtype for x in actual[2:]} == {dtype}
    for number, (found, wanted) in enumerate(zip(actual, expected, strict=True)):
        assert_close(found, wanted, "value" if number < 2 else "gradient", nearest)


@pytest.mark.parametrize("sets", [None, 1, 3])
@pytest.mark.parametrize("has_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("name", DTYPES)
def test_gradients_match_reference(
    shares: list[int], assert_close: AssertClose, sets: int | None, has_bias: bool, name: str
) -> None:
    operands = operands_of(replace(PROTEIN, sets=sets, has_bias=has_bias), DTYPES[name])
    nearest = torch.float32 if name == "fp32" else torch.bfloat16
    assert_matches_reference(assert_close, operands, DTYPES[name], nearest)
    assert shares == [1]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    case=st.builds(
        Case,
        predictions=st.sampled_from([1, 16, 21, 50]),
        vocabulary=st.sampled_from([1, 31, 32, 33, 63, 64]),
        hidden_size=st.sampled_from([5, 16, 32, 33]),
        sets=st.sampled_from([None, 1, 3]),
        has_bias=st.booleans(),
        seed=st.integers(0, 2**31),
        tokens=st.sampled_from([1, 7, 60]),
        index_dtype=st.sampled_from([torch.int32, torch.int64]),
    )
)
def test_any_small_vocabulary_matches_reference(
    shares: list[int], guard_bands: None, assert_close: AssertClose, case: Case
) -> None:
    shares.clear()
    assert_matches_reference(assert_close, operands_of(case), torch.float32, torch.float32)
    assert shares == [1]


@pytest.mark.usefixtures("many_multiprocessors")
@pytest.mark.parametrize("name", ["fp32", "fp16"])
def test_shares_of_the_predictions_are_added(
    shares: list[int], assert_close: AssertClose, name: str
) -> None:
    """70 predictions are five tiles, and so is each share."""
    operands = operands_of(replace(PROTEIN, predictions=70), DTYPES[name])
    nearest = torch.float32 if name == "fp32" else torch.bfloat16
    assert_matches_reference(assert_close, operands, DTYPES[name], nearest)
    assert shares == [5]


@pytest.mark.usefixtures("many_multiprocessors")
def test_repeated_runs_are_bit_equal(shares: list[int]) -> None:
    operands = operands_of(replace(PROTEIN, predictions=70), torch.bfloat16)
    first, second = (loss_and_gradients(cross_entropy, operands, torch.bfloat16) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert shares == [5, 5]


@pytest.mark.parametrize("rises", [True, False], ids=["rising", "repeated"])
def test_rows_that_rise_and_rows_that_are_repeated_match_reference(
    shares: list[int], assert_close: AssertClose, rises: bool
) -> None:
    drawn = operands_of(replace(PROTEIN, tokens=60))
    rows = torch.arange(37) + 20 if rises else torch.arange(37) // 3
    operands = replace(drawn, rows=rows)
    assert_matches_reference(assert_close, operands, torch.float32, torch.float32)
    assert shares == [1]


def test_rows_without_predictions_and_ids_that_are_not_allowed_get_exactly_no_gradient(
    shares: list[int],
) -> None:
    members = torch.arange(33) % 3 == 0
    drawn = operands_of(replace(PROTEIN, sets=None, tokens=60))
    operands = replace(
        drawn,
        rows=torch.arange(37),
        targets=drawn.targets // 3 * 3,
        allowed=AllowedSets(packed(members.unsqueeze(0)), None),
    )
    *_, hidden, weight, bias = loss_and_gradients(cross_entropy, operands, torch.float32)
    assert hidden[37:].eq(0).all()
    assert hidden[:37].ne(0).any(1).all()
    assert weight[~members].eq(0).all()
    assert bias[~members].eq(0).all()
    assert weight[members].ne(0).any(1).all()
    assert shares == [1]


def test_small_fp16_gradients_do_not_underflow(shares: list[int]) -> None:
    """A mean over 2 ** 20 of them: each is far below the smallest fp16 number."""
    operands = operands_of(replace(PROTEIN, sets=None), torch.float16)
    hidden, weight = (x.clone().requires_grad_() for x in (operands.hidden, operands.weight))
    loss, _ = cross_entropy(hidden, weight, None, operands.rows, operands.targets, None)
    torch.autograd.backward(loss.sum() / 2**12)
    exact_hidden, exact_weight = (
        x.detach().double().requires_grad_() for x in (operands.hidden, operands.weight)
    )
    exact, _ = reference.masked_cross_entropy(
        exact_hidden, exact_weight, None, operands.rows, operands.targets, None
    )
    torch.autograd.backward(exact.sum() / 2**12)
    for found, wanted in ((hidden.grad, exact_hidden.grad), (weight.grad, exact_weight.grad)):
        assert found is not None
        assert wanted is not None
        assert float((found - wanted).abs().max() / wanted.abs().max()) < 2e-3
    assert shares == [1]


def test_what_is_not_finite_shows_and_what_cannot_be_scored_does_not(shares: list[int]) -> None:
    operands = operands_of(replace(PROTEIN, sets=None))
    rows = operands.rows.clone()
    rows[3] = 1000
    leaves = [x.clone().requires_grad_() for x in (operands.hidden, operands.weight)]
    loss, _ = cross_entropy(*leaves, None, rows, operands.targets, None)
    torch.autograd.backward(torch.where(torch.arange(37) == 3, math.nan, 1.0) @ loss)
    assert all(x.grad is not None and x.grad.isfinite().all() for x in leaves)
    torch.autograd.backward(
        cross_entropy(*leaves, None, rows, operands.targets, None)[0].sum() * math.nan
    )
    assert all(x.grad is not None and x.grad.isnan().any() for x in leaves)
    assert shares == [1, 1]


@pytest.mark.parametrize("left_out", [0, 1], ids=["hidden", "weight"])
def test_one_gradient_alone_is_computed_by_the_kernels_of_any_vocabulary(
    shares: list[int], assert_close: AssertClose, left_out: int
) -> None:
    operands = operands_of(replace(PROTEIN, sets=None, has_bias=False))
    leaves = [operands.hidden.clone(), operands.weight.clone()]
    exact = [x.double() for x in leaves]
    gradients = []
    functions: tuple[Callable[..., Any], ...] = (cross_entropy, reference.masked_cross_entropy)
    for function, tensors in zip(functions, (leaves, exact), strict=True):
        tensors[1 - left_out].requires_grad_()
        loss, _ = function(*tensors, None, operands.rows, operands.targets, None)
        gradients.append(torch.autograd.grad(loss.sum(), tensors[1 - left_out])[0])
    assert_close(*gradients, "gradient", torch.float32)
    assert shares == []
