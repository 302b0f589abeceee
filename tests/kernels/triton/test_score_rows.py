"""Masked softmax of given scores by the Triton backend, interpreted."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm_kernels import BackendUnavailableError, reference
from seqmlm_kernels.allowed import AllowedSets
from tests.kernels.triton.projection_cases import packed

AssertClose = Callable[..., None]


def masked_softmax(scores: Tensor, allowed: AllowedSets) -> Tensor:
    from seqmlm_kernels.triton import projection

    return projection.masked_softmax(scores, allowed)


def sets_of(rows: int, size: int, sets: int, seed: int) -> AllowedSets:
    generator = torch.Generator().manual_seed(seed)
    members = torch.rand(sets, size, generator=generator) < 0.4
    members[0] = False
    index = torch.randint(0, sets, (rows,), generator=generator)
    return AllowedSets(packed(members), index if sets > 1 else None)


def softmax_and_gradient(
    softmax: Callable[[Tensor, AllowedSets], Tensor], scores: Tensor, allowed: AllowedSets
) -> tuple[Tensor, Tensor]:
    leaf = scores.clone().requires_grad_()
    probabilities = softmax(leaf, allowed)
    torch.autograd.backward((probabilities * torch.linspace(-1, 1, scores.shape[1])).sum())
    assert leaf.grad is not None
    return probabilities.detach(), leaf.grad


@pytest.mark.parametrize("tile_elements", [4096, 16], ids=["one tile", "several tiles"])
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.sampled_from([1, 2, 7]),
    size=st.sampled_from([1, 31, 32, 33, 64, 100]),
    sets=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**31),
)
def test_softmax_and_gradient_match_reference(
    tile_elements: int,
    monkeypatch: pytest.MonkeyPatch,
    assert_close: AssertClose,
    rows: int,
    size: int,
    sets: int,
    seed: int,
) -> None:
    from seqmlm_kernels.triton import score_rows

    monkeypatch.setattr(score_rows, "TILE_ELEMENTS", tile_elements)
    scores = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))
    allowed = sets_of(rows, size, sets, seed)
    found = softmax_and_gradient(masked_softmax, scores, allowed)
    expected = softmax_and_gradient(reference.masked_softmax, scores.double(), allowed)
    assert_close(found[0], expected[0], "value", torch.float32)
    assert_close(found[1], expected[1], "gradient", torch.float32)
    forbidden = ~allowed.per_prediction(allowed.unpack(size)).expand_as(scores)
    assert found[0][forbidden].eq(0).all()
    assert found[1][forbidden].eq(0).all()


@pytest.mark.parametrize(
    ("size", "blocks"), [(33, (64, 64)), (4096, (1, 4096)), (50_368, (1, 4096))]
)
def test_short_rows_share_a_program_and_long_ones_are_cut(
    size: int, blocks: tuple[int, int]
) -> None:
    from seqmlm_kernels.triton import score_rows

    assert score_rows.blocks_of(torch.empty(1, size)) == blocks


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_narrow_scores_give_narrow_probabilities(
    dtype: torch.dtype, assert_close: AssertClose, guard_bands: None
) -> None:
    scores = torch.randn(5, 70, generator=torch.Generator().manual_seed(0)).to(dtype)
    allowed = sets_of(5, 70, 3, 0)
    found, gradient = softmax_and_gradient(masked_softmax, scores, allowed)
    expected, _ = softmax_and_gradient(reference.masked_softmax, scores.double(), allowed)
    assert found.dtype == gradient.dtype == dtype
    assert_close(found, expected, "value", torch.bfloat16)


def test_probabilities_of_the_backward_need_not_be_contiguous() -> None:
    """A hook that packs saved tensors may hand them back in another layout."""
    from seqmlm_kernels.triton.score_rows import softmax_of_scores_backward

    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(4, 33, generator=generator).softmax(-1)
    gradient = torch.randn(4, 33, generator=generator)
    words = torch.full((1, 2), -1, dtype=torch.int32)
    expected = softmax_of_scores_backward(probabilities, gradient, words, None)
    strided = probabilities.T.contiguous().T
    found = softmax_of_scores_backward(strided, gradient.T.contiguous().T, words, None)
    assert torch.equal(found, expected)


def test_infinite_gradient_at_a_forbidden_id_changes_nothing() -> None:
    scores = torch.zeros(1, 4, requires_grad=True)
    probabilities = masked_softmax(scores, AllowedSets(torch.tensor([[0b011]]).int(), None))
    probabilities.backward(torch.tensor([[1.0, 0.0, math.inf, math.nan]]))
    assert scores.grad is not None
    assert scores.grad[0].tolist() == pytest.approx([0.25, -0.25, 0.0, 0.0])


def test_no_rows_have_an_empty_softmax() -> None:
    scores = torch.zeros(0, 33, requires_grad=True)
    probabilities = masked_softmax(scores, AllowedSets(torch.tensor([[1, 1]]).int(), None))
    torch.autograd.backward(probabilities.sum())
    assert scores.grad is not None
    assert probabilities.shape == scores.grad.shape == (0, 33)


def test_fp64_is_refused_by_name() -> None:
    allowed = AllowedSets(torch.tensor([[1]]).int(), None)
    with pytest.raises(BackendUnavailableError, match=r"scores is torch\.float64"):
        masked_softmax(torch.zeros(1, 3, dtype=torch.float64), allowed)
