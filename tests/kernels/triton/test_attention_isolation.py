"""What attention kernels must not read, write or add: other sequences, empty rows, neighbours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from seqmlm_kernels import Visibility, attention
from seqmlm_kernels.triton import attention as launcher
from tests.kernels.test_attention import Case, boundaries_of, output_and_gradients, tensors_of
from tests.kernels.triton.guarded_memory import in_guarded_memory

# What numpy says of rows that lie past a sequence and that nobody reads.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) enc:RuntimeWarning")

AssertClose = Callable[..., None]
UseTiles = Callable[[int, int], None]
each_backward = pytest.mark.parametrize("backward", ["deterministic", "atomic"])


@each_backward
def test_query_that_sees_nothing_gets_zeros_and_gives_no_gradient(backward: str) -> None:
    tensors, arguments = tensors_of(Case([3, 2], backward=backward))
    nothing = torch.full((5,), -1, dtype=torch.int32)
    arguments["visibility"] = Visibility(step=nothing + 1, reach=nothing, group=nothing)
    for result in output_and_gradients(tensors, arguments, torch.float32, "triton"):
        assert result.eq(0).all()
    q, k, v = (x.float() for x in tensors[:3])
    fields = (nothing + 1, nothing, nothing)
    _, log_sum = launcher.attention_forward(
        q, k, v, arguments["cu_seqlens"], *fields, None, None, 3, 1.0, "deterministic"
    )
    assert log_sum.isneginf().all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy on NaN
@pytest.mark.parametrize(
    ("visibility", "backward"),
    [("none", "deterministic"), ("causal", "deterministic"), ("causal", "atomic")],
    ids=["none", "causal", "atomic"],
)
@pytest.mark.parametrize("poisoned", range(3))
def test_poisoned_neighbour_changes_no_bit(
    use_tiles: UseTiles, visibility: str, backward: str, poisoned: int
) -> None:
    use_tiles(16, 16)
    case = Case([20, 3, 17], kv_heads=1, visibility=visibility, backward=backward)
    tensors, arguments = tensors_of(case)
    clean = output_and_gradients(tensors, arguments, torch.float32, "triton")
    bounds = boundaries_of(case.lengths).tolist()
    inside = slice(bounds[poisoned], bounds[poisoned + 1])
    for x in tensors:
        x[inside] = torch.nan
    dirty = output_and_gradients(tensors, arguments, torch.float32, "triton")
    elsewhere = torch.ones(bounds[-1], dtype=torch.bool)
    elsewhere[inside] = False
    for before, after in zip(clean, dirty, strict=True):
        assert torch.equal(before[elsewhere], after[elsewhere])
        assert after[inside].isnan().all()


@each_backward
def test_nothing_is_read_or_written_next_to_the_operands(
    use_tiles: UseTiles, backward: str
) -> None:
    """The bands hold numbers that would change the result, were they read."""
    use_tiles(16, 16)
    case = Case([20, 5], head_dim=12, visibility="causal", window=9, backward=backward)
    tensors, arguments = tensors_of(case)
    plain = output_and_gradients(tensors, arguments, torch.float32, "triton")
    guarded = [in_guarded_memory(x.float()) for x in tensors]
    q, k, v, output_gradient = (x for x, _ in guarded)
    operands = tuple(x.requires_grad_() for x in (q.detach(), k.detach(), v.detach()))
    output = attention(*operands, **arguments, backend="triton")
    torch.autograd.backward(output, output_gradient)
    for before, after in zip(plain, (output, *(x.grad for x in operands)), strict=True):
        assert after is not None
        assert torch.equal(before, after)
    assert all(untouched() for _, untouched in guarded)


@each_backward
@pytest.mark.parametrize("window", [None, 4], ids=["all", "window"])
def test_tokens_outside_of_all_sequences_get_zeros(backward: str, window: int | None) -> None:
    """Values of cu_seqlens are not read on a GPU: it may cover only some of the tokens."""
    generator = torch.Generator().manual_seed(0)
    q, k, v, output_gradient = (torch.randn(40, 1, 8, generator=generator) for _ in range(4))
    layout = (boundaries_of([7, 3]) + 5, None, None, None, None, window, 7, 0.3, backward)
    output, log_sum = launcher.attention_forward(q, k, v, *layout)
    gradients = launcher.attention_backward(output_gradient, q, k, v, output, log_sum, *layout)
    for result in (output, *gradients):
        assert result[:5].eq(0).all()
        assert result[15:].eq(0).all()
        assert result[5:15].ne(0).all()


def test_batch_of_empty_sequences_has_an_empty_result() -> None:
    tensors, arguments = tensors_of(Case([0, 0]))
    results = output_and_gradients(tensors, arguments, torch.float32, "triton")
    assert [x.shape[0] for x in results] == [0, 0, 0, 0]


@each_backward
def test_rows_of_a_tile_past_its_sequence_add_nothing_whatever_the_scores(
    assert_close: AssertClose, backward: str
) -> None:
    """All scores are about -400: relative to them, a score of 0 has an infinite weight."""
    (q, k, v, output_gradient), arguments = tensors_of(Case([3], scale=100.0, backward=backward))
    tensors = (q * 0.01 + 1, k * 0.01 - 1, v, output_gradient)
    expected = output_and_gradients(tensors, arguments, torch.float64, "reference")
    actual = output_and_gradients(tensors, arguments, torch.float32, "triton")
    for found, wanted in zip(actual, expected, strict=True):
        assert_close(found, wanted, "gradient", torch.float16)
