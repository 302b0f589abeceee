"""Cross-entropy over a projection by the Triton backend, interpreted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm_kernels import BackendUnavailableError, reference
from seqmlm_kernels.allowed import AllowedSets
from tests.kernels.triton.projection_cases import (
    DTYPES,
    REGIMES,
    Case,
    Operands,
    cross_entropy,
    force_regime,
    loss_and_gradients,
    operands_of,
    packed,
)

AssertClose = Callable[..., None]


@pytest.fixture
def use_regime(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make small calls run as large ones do."""
    return lambda regime: force_regime(monkeypatch, regime)


def in_fp64(operands: Operands) -> list[Tensor]:
    return loss_and_gradients(reference.masked_cross_entropy, operands, torch.float64)


def assert_all_close(
    assert_close: AssertClose, actual: list[Tensor], expected: list[Tensor], dtype: torch.dtype
) -> None:
    assert len(actual) == len(expected)
    for number, (found, wanted) in enumerate(zip(actual, expected, strict=True)):
        assert_close(found, wanted, "value" if number < 2 else "gradient", dtype)


cases = st.builds(
    Case,
    predictions=st.sampled_from([1, 3, 16, 21]),
    vocabulary=st.sampled_from([1, 31, 32, 33, 64, 100]),
    hidden_size=st.sampled_from([5, 16, 24]),
    sets=st.sampled_from([None, 1, 3]),
    has_bias=st.booleans(),
    seed=st.integers(0, 2**31),
    index_dtype=st.sampled_from([torch.int32, torch.int64]),
)


@pytest.mark.parametrize("regime", REGIMES)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=cases)
def test_loss_and_gradients_match_reference(
    regime: str, use_regime: Callable[[str], None], assert_close: AssertClose, case: Case
) -> None:
    use_regime(regime)
    operands = operands_of(case)
    actual = loss_and_gradients(cross_entropy, operands, torch.float32)
    assert_all_close(assert_close, actual, in_fp64(operands), torch.float32)


LARGE = Case(predictions=37, vocabulary=197, hidden_size=40, sets=3, has_bias=True, tokens=29)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_narrow_dtypes_match_reference_on_the_same_rounded_inputs(
    regime: str, use_regime: Callable[[str], None], assert_close: AssertClose, name: str
) -> None:
    use_regime(regime)
    operands = operands_of(LARGE, DTYPES[name])
    actual = loss_and_gradients(cross_entropy, operands, DTYPES[name])
    assert actual[0].dtype == actual[1].dtype == torch.float32
    assert {x.dtype for x in actual[2:]} == {DTYPES[name]}
    # fp16 has three bits more than bf16, whose tolerance is the nearest that is written down.
    assert_all_close(assert_close, actual, in_fp64(operands), torch.bfloat16)


def test_regimes_of_one_size_give_the_same_bits(use_regime: Callable[[str], None]) -> None:
    operands = operands_of(replace(LARGE, tokens=37), torch.bfloat16)
    use_regime("materialised")
    kept = loss_and_gradients(cross_entropy, operands, torch.bfloat16)
    use_regime("recomputed")
    again = loss_and_gradients(cross_entropy, operands, torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


@pytest.mark.parametrize("regime", REGIMES)
def test_nothing_is_written_next_to_the_results(
    regime: str, use_regime: Callable[[str], None], guard_bands: None
) -> None:
    use_regime(regime)
    for x in loss_and_gradients(cross_entropy, operands_of(LARGE), torch.float32):
        assert not x.isnan().any()


@pytest.mark.parametrize("regime", REGIMES)
def test_repeated_runs_are_bit_equal(regime: str, use_regime: Callable[[str], None]) -> None:
    use_regime(regime)
    operands = operands_of(LARGE)
    first, second = (loss_and_gradients(cross_entropy, operands, torch.float32) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_parts_of_the_backward_are_those_of_the_plan(use_regime: Callable[[str], None]) -> None:
    """197 ids in tiles of 32 and slabs of 32, 37 predictions in chunks of 16: 7 x 3 parts."""
    from seqmlm_kernels.triton import projection_backward, projection_launch

    use_regime("in parts")
    plan = projection_launch.plan_of(projection_of(operands_of(LARGE)))
    assert (plan.chunk_predictions, plan.slab_vocabulary) == (16, 32)
    parts = projection_backward.parts_of(plan, 37, 197)
    assert len(parts) == 21
    assert [part.is_first_slab for part in parts[:7]] == [True] + [False] * 6
    assert [part.is_last_slab for part in parts[:7]] == [False] * 6 + [True]
    assert [part.is_first_chunk for part in parts] == [True] * 7 + [False] * 14
    assert parts[-1].predictions == slice(32, 37)


@pytest.mark.parametrize("sets", [None, 1, 3])
def test_splits_of_vocabulary_and_predictions_match_reference(
    sets: int | None,
    use_regime: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    assert_close: AssertClose,
) -> None:
    """More programs than tiles: the forward and both gradients are split."""
    from seqmlm_kernels.triton import projection_launch, projection_plan

    use_regime("recomputed")
    monkeypatch.setattr(projection_launch, "multiprocessors_of", lambda device: 64)
    case = Case(predictions=70, vocabulary=97, hidden_size=24, sets=sets, has_bias=True)
    operands = operands_of(case)
    # As if memory were free: a small product is else not worth a partial sum.
    monkeypatch.setattr(projection_plan, "FLOP_PER_BYTE", 0)
    plan = projection_launch.plan_of(projection_of(operands))
    assert plan.vocabulary_splits == 4
    assert plan.hidden_splits == 4
    assert plan.prediction_splits == 5
    actual = loss_and_gradients(cross_entropy, operands, torch.float32)
    assert_all_close(assert_close, actual, in_fp64(operands), torch.float32)


def projection_of(operands: Operands) -> Any:
    from seqmlm_kernels.triton import projection_launch

    allowed = operands.allowed
    words, index = (None, None) if allowed is None else (allowed.words, allowed.index)
    return projection_launch.contiguous_projection(
        operands.hidden, operands.weight, operands.bias, operands.rows, words, index
    )


@pytest.mark.parametrize("sets", [1, 2])
def test_tiles_that_no_set_allows_are_not_computed(
    sets: int, use_regime: Callable[[str], None]
) -> None:
    """Weights of the second tile of 32 ids are NaN: whoever multiplies by them shows it."""
    use_regime("recomputed")
    drawn = operands_of(Case(9, 97, 16, sets=None, has_bias=False))
    members = torch.ones(sets, 97, dtype=torch.bool)
    members[:, 32:64] = False
    allowed = AllowedSets(packed(members), torch.arange(9) % 2 if sets == 2 else None)
    operands = replace(drawn, targets=64 + drawn.targets % 33, allowed=allowed)
    operands.weight[32:64] = math.nan
    loss, log_normaliser, hidden, weight = loss_and_gradients(
        cross_entropy, operands, torch.float32
    )
    assert not loss.isnan().any()
    assert not log_normaliser.isnan().any()
    assert not hidden.isnan().any()
    assert weight[32:64].eq(0).all()


def test_tile_that_another_prediction_needs_has_no_gradient_here(
    use_regime: Callable[[str], None], assert_close: AssertClose
) -> None:
    """Sixteen predictions of one set fill a tile of rows; the ids of the other are skipped."""
    use_regime("recomputed")
    members = torch.zeros(2, 97, dtype=torch.bool)
    members[0, :32] = True
    members[1, 64:] = True
    index = torch.tensor([0] * 16 + [1] * 5)
    operands = operands_of(Case(21, 97, 16, sets=None, has_bias=True))
    targets = torch.where(index == 0, operands.targets % 32, 64 + operands.targets % 33)
    operands = replace(operands, targets=targets, allowed=AllowedSets(packed(members), index))
    actual = loss_and_gradients(cross_entropy, operands, torch.float32)
    assert_all_close(assert_close, actual, in_fp64(operands), torch.float32)


@pytest.mark.parametrize("regime", REGIMES)
def test_ids_that_are_not_allowed_get_exactly_no_gradient(
    regime: str, use_regime: Callable[[str], None]
) -> None:
    use_regime(regime)
    operands = operands_of(Case(9, 97, 16, sets=1, has_bias=True))
    assert operands.allowed is not None
    forbidden = ~operands.allowed.unpack(97)[0]
    *_, weight, bias = loss_and_gradients(cross_entropy, operands, torch.float32)
    assert forbidden.any()
    assert weight[forbidden].eq(0).all()
    assert bias[forbidden].eq(0).all()
    assert weight[~forbidden].ne(0).any()


@pytest.mark.parametrize("regime", REGIMES)
def test_predictions_that_cannot_be_scored_are_counted(
    regime: str, use_regime: Callable[[str], None]
) -> None:
    """Targets 1 and 5 are not in {0, 3}, -100 is no id; an empty set has no target to miss."""
    from seqmlm_kernels.rejected_targets import rejected_targets

    use_regime(regime)
    rejected = rejected_targets(torch.device("cpu")).zero_()
    hidden = torch.ones(1, 16)
    bias = torch.tensor([1.0, 2.0, 3.0, 4.0, 0.0, 0.0]).log().requires_grad_()
    allowed = AllowedSets(
        torch.tensor([[0b1001], [0]], dtype=torch.int32), torch.tensor([0] * 4 + [1])
    )
    with torch.no_grad():
        bias[4:] = 0.0
    loss, log_normaliser = cross_entropy(
        hidden,
        torch.zeros(6, 16),
        bias,
        torch.zeros(5, dtype=torch.int32),
        torch.tensor([1, 5, -100, 3, 0]),
        allowed,
    )
    assert loss.tolist() == pytest.approx([0.0, 0.0, 0.0, math.log(5 / 4), 0.0])
    assert log_normaliser[:4].tolist() == pytest.approx([math.log(5)] * 4)
    assert log_normaliser[4].item() == -math.inf
    assert rejected.item() == 3
    torch.autograd.backward(loss[:3].sum() + log_normaliser[4])
    assert bias.grad is not None
    assert bias.grad.eq(0).all()


def test_row_that_does_not_exist_is_counted_and_not_read() -> None:
    from seqmlm_kernels.rejected_targets import rejected_targets

    rejected = rejected_targets(torch.device("cpu")).zero_()
    hidden = torch.ones(2, 16, requires_grad=True)
    rows = torch.tensor([0, 2, -1])
    loss, log_normaliser = cross_entropy(
        hidden, torch.ones(5, 16), None, rows, torch.tensor([1, 1, 1]), None
    )
    assert loss.tolist() == pytest.approx([math.log(5), 0.0, 0.0])
    assert log_normaliser[1:].tolist() == [-math.inf, -math.inf]
    assert rejected.item() == 2
    torch.autograd.backward(loss.sum())
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


@pytest.mark.parametrize("regime", REGIMES)
def test_scores_that_are_not_finite_show_in_the_loss(
    regime: str, use_regime: Callable[[str], None]
) -> None:
    """A guard against non-finite losses must see them: NaN is not taken for nothing allowed."""
    use_regime(regime)
    operands = operands_of(Case(3, 33, 16, sets=1, has_bias=True))
    operands.hidden[:] = math.nan
    loss, log_normaliser, *_ = loss_and_gradients(cross_entropy, operands, torch.float32)
    assert loss.isnan().any()
    assert log_normaliser.isnan().all()


@pytest.mark.parametrize("regime", REGIMES)
def test_no_predictions_have_an_empty_loss_and_zero_gradients(
    regime: str, use_regime: Callable[[str], None]
) -> None:
    use_regime(regime)
    operands = operands_of(Case(0, 33, 16, sets=1, has_bias=True))
    loss, log_normaliser, *gradients = loss_and_gradients(cross_entropy, operands, torch.float32)
    assert loss.shape == log_normaliser.shape == (0,)
    assert len(gradients) == 3
    assert not any(x.any() for x in gradients)


def test_gradients_that_nobody_asked_for_are_not_computed(
    monkeypatch: pytest.MonkeyPatch, assert_close: AssertClose
) -> None:
    from seqmlm_kernels.triton import projection_backward

    operands = operands_of(LARGE)
    expected = in_fp64(operands)
    monkeypatch.delattr(projection_backward, "weight_gradient_kernel")
    hidden = operands.hidden.clone().requires_grad_()
    loss, log_normaliser = cross_entropy(
        hidden, operands.weight, operands.bias, operands.rows, operands.targets, operands.allowed
    )
    factors = torch.linspace(0.5, 2.0, len(loss))
    squares = torch.where(log_normaliser.isfinite(), log_normaliser, 0.0).square()
    torch.autograd.backward((loss * factors + squares * factors.flip(0)).sum())
    assert hidden.grad is not None
    assert_close(hidden.grad, expected[2], "gradient", torch.float32)


def test_operands_need_not_be_contiguous(assert_close: AssertClose) -> None:
    operands = operands_of(LARGE)
    strided = replace(
        operands,
        hidden=operands.hidden.T.contiguous().T,
        weight=operands.weight.repeat(1, 2)[:, :40],
        rows=operands.rows.repeat_interleave(2)[::2],
        targets=operands.targets.repeat_interleave(2)[::2],
    )
    actual = loss_and_gradients(cross_entropy, strided, torch.float32)
    assert_all_close(assert_close, actual, in_fp64(operands), torch.float32)


def test_many_rows_are_linked_by_sorting(
    monkeypatch: pytest.MonkeyPatch, assert_close: AssertClose
) -> None:
    from seqmlm_kernels.triton import repeated_rows

    monkeypatch.setattr(repeated_rows, "COMPARED_PREDICTIONS", 8)
    monkeypatch.delattr(repeated_rows, "link_kernel")
    operands = operands_of(LARGE)
    actual = loss_and_gradients(cross_entropy, operands, torch.float32)
    assert_all_close(assert_close, actual, in_fp64(operands), torch.float32)


def test_fp64_is_refused_by_name() -> None:
    operands = operands_of(Case(1, 5, 4, sets=1, has_bias=False), torch.float64)
    with pytest.raises(BackendUnavailableError, match=r"hidden is torch\.float64.*backend='torch'"):
        cross_entropy(operands.hidden, operands.weight, None, operands.rows, operands.targets, None)
