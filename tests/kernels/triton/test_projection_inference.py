"""Likelihoods of given ids and best ids by the Triton backend, interpreted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmlm_kernels import reference
from seqmlm_kernels.allowed import AllowedSets
from tests.kernels.triton.projection_cases import DTYPES, Case, Operands, operands_of

AssertClose = Callable[..., None]


Arguments = tuple[Tensor, Tensor, Tensor | None, Tensor]


def inference(operands: Operands) -> Arguments:
    return operands.hidden, operands.weight, operands.bias, operands.rows


def in_double(operands: Operands) -> Arguments:
    bias = None if operands.bias is None else operands.bias.double()
    return operands.hidden.double(), operands.weight.double(), bias, operands.rows


@pytest.mark.parametrize("sets", [None, 1, 3])
@pytest.mark.parametrize("name", list(DTYPES))
def test_likelihoods_of_given_ids_match_reference(
    sets: int | None, name: str, assert_close: AssertClose, guard_bands: None
) -> None:
    from seqmlm_kernels.triton import projection

    operands = operands_of(Case(5, 97, 24, sets=sets, has_bias=sets != 1), DTYPES[name])
    ids = torch.randint(0, 97, (5, 19), generator=torch.Generator().manual_seed(0))
    actual = projection.token_log_likelihood(*inference(operands), ids, operands.allowed)
    expected = reference.token_log_likelihood(*in_double(operands), ids, operands.allowed)
    assert actual.dtype == torch.float32
    assert_close(actual, expected, "value", torch.float32)


def test_no_ids_have_no_likelihoods() -> None:
    from seqmlm_kernels.triton import projection

    operands = operands_of(Case(5, 33, 16, sets=None, has_bias=False))
    ids = torch.empty(5, 0, dtype=torch.int64)
    assert projection.token_log_likelihood(*inference(operands), ids, None).shape == (5, 0)


def test_likelihoods_reject_no_target() -> None:
    from seqmlm_kernels.rejected_targets import rejected_targets
    from seqmlm_kernels.triton import projection

    rejected = rejected_targets(torch.device("cpu")).zero_()
    operands = operands_of(Case(5, 33, 16, sets=1, has_bias=False))
    ids = operands.targets.unsqueeze(1)
    projection.token_log_likelihood(*inference(operands), ids, operands.allowed)
    assert rejected.item() == 0


@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize("sets", [None, 1, 3])
@pytest.mark.parametrize("k", [1, 5, 64])
def test_best_ids_match_reference(
    splits: int,
    sets: int | None,
    k: int,
    monkeypatch: pytest.MonkeyPatch,
    assert_close: AssertClose,
) -> None:
    from seqmlm_kernels.triton import projection
    from seqmlm_kernels.triton import top_k as module

    monkeypatch.setattr(module, "multiprocessors_of", lambda device: splits)
    operands = operands_of(Case(3, 230, 16, sets=sets, has_bias=True))
    actual, ids = projection.top_k(*inference(operands), k, operands.allowed)
    expected, expected_ids = reference.top_k(*in_double(operands), k, operands.allowed)
    assert_close(actual, expected, "value", torch.float32)
    found = actual.isfinite()
    assert torch.equal(ids[found], expected_ids[found])
    assert ((ids >= 0) & (ids < 230)).all()


def best_of_scores(scores: list[float], k: int, allowed: AllowedSets | None = None) -> Any:
    from seqmlm_kernels.triton import projection

    zeros = torch.zeros(1, 16), torch.zeros(len(scores), 16)
    rows = torch.zeros(1, dtype=torch.int32)
    return projection.top_k(*zeros, torch.tensor(scores), rows, k, allowed)


def test_equal_probabilities_are_ranked_by_lowest_id() -> None:
    _, ids = best_of_scores([1.0, 2.0, 1.0, 2.0, 1.0, 2.0] * 30, 35)
    assert ids[0].tolist() == list(range(1, 70, 2))


def test_negative_zero_is_zero_and_negative_scores_are_ordered() -> None:
    _, ids = best_of_scores([-0.0, -5.0, 0.0, -2.0, -0.0], 5)
    assert ids[0].tolist() == [0, 2, 4, 3, 1]


def test_scores_that_round_to_one_probability_are_ranked_by_id() -> None:
    """Beside a normaliser of 17 the last bit of a small score is lost."""
    small = torch.tensor(1e-3)
    larger = torch.nextafter(small, torch.tensor(1.0))
    values, ids = best_of_scores([float(small), float(larger), 17.0], 3)
    assert values[0, 1].item() == values[0, 2].item()
    assert ids[0].tolist() == [2, 0, 1]


def test_ranks_past_the_allowed_ids_are_minus_infinity() -> None:
    allowed = AllowedSets(torch.tensor([[0b101]], dtype=torch.int32), None)
    values, ids = best_of_scores([0.0, 9.0, 0.0, 9.0], 3, allowed)
    assert values[0].tolist() == pytest.approx([-math.log(2), -math.log(2), -math.inf])
    assert ids[0].tolist() == [0, 2, 0]
    nothing = AllowedSets(torch.tensor([[0]], dtype=torch.int32), None)
    assert best_of_scores([0.0, 9.0], 2, nothing)[0].tolist() == [[-math.inf, -math.inf]]


@pytest.mark.parametrize("sets", [None, 3])
@pytest.mark.parametrize("k", [17, 64, 100])
def test_more_ids_than_a_pass_finds_match_reference(
    k: int, sets: int | None, monkeypatch: pytest.MonkeyPatch, assert_close: AssertClose
) -> None:
    """Passes of 16: two, four, and seven of which the last has room to spare."""
    from seqmlm_kernels.triton import projection
    from seqmlm_kernels.triton import top_k as module

    monkeypatch.setattr(module, "MAX_K", 16)
    operands = operands_of(Case(3, 100, 16, sets=sets, has_bias=True))
    actual, ids = projection.top_k(*inference(operands), k, operands.allowed)
    expected, expected_ids = reference.top_k(*in_double(operands), k, operands.allowed)
    assert actual.shape == ids.shape == (3, k)
    assert_close(actual, expected, "value", torch.float32)
    found = actual.isfinite()
    assert torch.equal(ids[found], expected_ids[found])


def test_passes_rank_equal_probabilities_by_lowest_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 2nd and 3rd scores, of two passes, round to one probability; the 3rd id is lower."""
    from seqmlm_kernels.triton import top_k as module

    monkeypatch.setattr(module, "MAX_K", 2)
    small = torch.tensor(1e-3)
    larger = torch.nextafter(small, torch.tensor(1.0))
    values, ids = best_of_scores([float(small), float(larger), 17.0], 3)
    assert values[0, 1].item() == values[0, 2].item()
    assert ids[0].tolist() == [2, 0, 1]


def test_sixty_five_ids_take_two_passes() -> None:
    scores = torch.randn(100, generator=torch.Generator().manual_seed(0))
    _, ids = best_of_scores(scores.tolist(), 65)
    assert torch.equal(ids[0], scores.argsort(descending=True)[:65])
