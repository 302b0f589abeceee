"""Attention of every backend: first principles, then the reference in fp64, then invariances."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm_kernels import Visibility, attention, attention_layout

AssertClose = Callable[..., None]
NOT_READ = torch.iinfo(torch.int32).max
VISIBILITIES = ("none", "bidirectional", "causal", "prefix", "pseudo_masked", "random")


def boundaries_of(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def integers(generator: torch.Generator, low: int, high: int, count: int) -> Tensor:
    return torch.randint(low, high, (count,), generator=generator, dtype=torch.int32)


def make_visibility(kind: str, cu_seqlens: Tensor, generator: torch.Generator) -> Visibility | None:
    tokens = int(cu_seqlens[-1])
    causal = Visibility.causal(cu_seqlens)
    if kind == "none":
        return None
    if kind == "bidirectional":
        return Visibility.bidirectional(tokens)
    if kind == "causal":
        return causal
    if kind == "prefix":
        step = (causal.step - 2).clamp(min=0)
        return replace(causal, step=step, reach=step)
    if kind == "pseudo_masked":
        block = integers(generator, 0, 4, tokens)
        pseudo = (block > 0) & (integers(generator, 0, 2, tokens) == 1)
        return Visibility(
            step=torch.where(pseudo, NOT_READ, block),
            reach=torch.where(pseudo, block - 1, block),
            group=torch.where(pseudo, block, -1),
        )
    return Visibility(
        step=integers(generator, 0, 4, tokens),
        reach=integers(generator, -1, 4, tokens),
        group=integers(generator, -2, 3, tokens),
    )


@dataclass(frozen=True)
class Case:
    lengths: list[int]
    kv_heads: int = 2
    heads_per_kv_head: int = 1
    head_dim: int = 4
    visibility: str = "none"
    window: int | None = None
    given_positions: bool = False
    scale: float | None = None
    backward: str = "deterministic"
    seed: int = 0


cases = st.builds(
    Case,
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    kv_heads=st.integers(1, 2),
    heads_per_kv_head=st.integers(1, 3),
    head_dim=st.sampled_from([1, 4, 8]),
    visibility=st.sampled_from(VISIBILITIES),
    window=st.none() | st.integers(0, 4),
    given_positions=st.booleans(),
    scale=st.none() | st.sampled_from([0.3, 2.0]),
    backward=st.sampled_from(["deterministic", "atomic"]),
    seed=st.integers(0, 2**31),
)


def tensors_of(case: Case) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], dict[str, Any]]:
    """fp64 (q, k, v, gradient of the output), and the keyword arguments of attention."""
    generator = torch.Generator().manual_seed(case.seed)
    cu_seqlens = boundaries_of(case.lengths)
    tokens = int(cu_seqlens[-1])
    heads = case.kv_heads * case.heads_per_kv_head
    q, k, v, output_gradient = (
        torch.randn(tokens, count, case.head_dim, dtype=torch.float64, generator=generator)
        for count in (heads, case.kv_heads, case.kv_heads, heads)
    )
    return (q, k, v, output_gradient), {
        "cu_seqlens": cu_seqlens,
        "max_seqlen": max(case.lengths),
        "visibility": make_visibility(case.visibility, cu_seqlens, generator),
        "window": case.window,
        "positions": integers(generator, 0, 8, tokens) if case.given_positions else None,
        "scale": case.scale,
        "backward": case.backward,
    }


def output_and_gradients(
    tensors: tuple[Tensor, ...], arguments: dict[str, Any], dtype: torch.dtype, backend: str
) -> list[Tensor]:
    q, k, v = (x.to(dtype, copy=True).requires_grad_() for x in tensors[:3])
    output = attention(q, k, v, **arguments, backend=backend)
    torch.autograd.backward(output, tensors[3].to(dtype))
    gradients = [x.grad for x in (q, k, v)]
    return [output.detach(), *(g for g in gradients if g is not None)]


def assert_matches_reference(
    case: Case, dtype: torch.dtype, backend: str, assert_close: AssertClose
) -> None:
    tensors, arguments = tensors_of(case)
    rounded = tuple(x.to(dtype).double() for x in tensors)
    expected = output_and_gradients(rounded, arguments, torch.float64, "reference")
    actual = output_and_gradients(rounded, arguments, dtype, backend)
    assert len(actual) == len(expected) == 4
    for kind, found, wanted in zip(
        ("value", "gradient", "gradient", "gradient"), actual, expected, strict=True
    ):
        assert found.dtype == dtype
        assert_close(found, wanted, kind, dtype)


def test_layout_is_not_copied_where_triton_cannot_run() -> None:
    cu_seqlens = boundaries_of([2, 1])
    positions, visibility = torch.arange(3), Visibility.causal(cu_seqlens)
    layout = attention_layout(cu_seqlens, positions=positions, visibility=visibility)
    assert layout.cu_seqlens is cu_seqlens
    assert layout.positions is positions
    assert layout.visibility is visibility


def test_output_is_the_average_weighted_by_exponentials(any_backend: str) -> None:
    q = torch.tensor([[[1.0]], [[0.0]]])
    k = torch.tensor([[[0.0]], [[math.log(3.0)]]])
    v = torch.tensor([[[0.0]], [[4.0]]])
    output = attention(
        q, k, v, cu_seqlens=boundaries_of([2]), max_seqlen=2, scale=1.0, backend=any_backend
    )
    assert output.flatten().tolist() == pytest.approx([3.0, 2.0])


def test_default_scale_is_one_over_root_of_head_dim(any_backend: str) -> None:
    q = torch.full((1, 1, 4), 1.0).repeat(2, 1, 1)
    k = torch.stack((torch.zeros(1, 4), torch.full((1, 4), math.log(3.0) / 2)))
    v = torch.tensor([[[0.0] * 4], [[4.0] * 4]])
    output = attention(q, k, v, cu_seqlens=boundaries_of([2]), max_seqlen=2, backend=any_backend)
    assert output[0, 0].tolist() == pytest.approx([3.0] * 4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@settings(max_examples=80, deadline=None)
@given(case=cases)
def test_output_and_gradients_match_reference(
    backend: str, assert_close: AssertClose, dtype: torch.dtype, case: Case
) -> None:
    assert_matches_reference(case, dtype, backend, assert_close)


@settings(max_examples=40, deadline=None)
@given(case=cases, pairs=st.integers(1, 60))
def test_masks_made_for_some_queries_at_a_time_give_the_same(
    assert_close: AssertClose, case: Case, pairs: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seqmlm_kernels.torch_backend._PAIRS_PER_CHUNK", pairs)
        assert_matches_reference(case, torch.float64, "torch", assert_close)


@pytest.mark.parametrize(
    "case",
    [
        Case([70, 1, 0, 33], head_dim=32),
        Case([33, 70, 33, 1, 70], head_dim=32, heads_per_kv_head=2),
        Case([70, 40], head_dim=16, visibility="causal"),
        Case([70, 40], head_dim=16, window=7),
    ],
    ids=["ragged", "grouped_and_repeated_lengths", "causal", "window"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_longer_sequences_match_reference(
    backend: str, assert_close: AssertClose, dtype: torch.dtype, case: Case
) -> None:
    assert_matches_reference(case, dtype, backend, assert_close)


@pytest.mark.parametrize(
    "case",
    [
        Case([2, 0, 1, 2], heads_per_kv_head=2, head_dim=2, visibility="random", seed=4),
        Case([2, 3], window=1),
    ],
    ids=["random_visibility", "window"],
)
def test_gradients_match_finite_differences(any_backend: str, case: Case) -> None:
    tensors, arguments = tensors_of(case)

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k, v, **arguments, backend=any_backend)

    q, k, v = (x.requires_grad_() for x in tensors[:3])
    assert torch.autograd.gradcheck(run, (q, k, v))


def test_query_that_sees_nothing_gets_zeros_and_gives_no_gradient(any_backend: str) -> None:
    """The second of three tokens has reach -1: it sees nobody, and its key is seen by all."""
    tensors, arguments = tensors_of(Case([3]))
    step = torch.zeros(3, dtype=torch.int32)
    arguments["visibility"] = Visibility(
        step=step,
        reach=torch.tensor([0, -1, 0], dtype=torch.int32),
        group=torch.full_like(step, -1),
    )
    output, q_gradient, k_gradient, _ = output_and_gradients(
        tensors, arguments, torch.float32, any_backend
    )
    assert output[1].eq(0).all()
    assert q_gradient[1].eq(0).all()
    assert k_gradient[1].ne(0).any()

    only_blind = (*tensors[:3], tensors[3] * torch.tensor([0, 1, 0])[:, None, None])
    for gradient in output_and_gradients(only_blind, arguments, torch.float32, any_backend)[1:]:
        assert gradient.eq(0).all()


@pytest.mark.parametrize("visibility", ["none", "causal"])
@pytest.mark.parametrize("poisoned", range(5))
def test_poisoned_neighbour_changes_no_bit(
    any_backend: str, visibility: str, poisoned: int
) -> None:
    """Sequences 0, 2 and 4 are of one length and share a batch in the torch backend."""
    case = Case([5, 3, 5, 2, 5], visibility=visibility)
    tensors, arguments = tensors_of(case)
    clean = output_and_gradients(tensors, arguments, torch.float32, any_backend)
    bounds = boundaries_of(case.lengths).tolist()
    inside = slice(bounds[poisoned], bounds[poisoned + 1])
    for x in tensors:
        x[inside] = torch.nan
    dirty = output_and_gradients(tensors, arguments, torch.float32, any_backend)
    elsewhere = torch.ones(bounds[-1], dtype=torch.bool)
    elsewhere[inside] = False
    for before, after in zip(clean, dirty, strict=True):
        assert torch.equal(before[elsewhere], after[elsewhere])
        assert after[inside].isnan().all()


@settings(max_examples=30, deadline=None)
@given(case=cases, order_seed=st.randoms(use_true_random=False))
def test_order_of_sequences_does_not_matter(
    backend: str, assert_close: AssertClose, case: Case, order_seed: object
) -> None:
    order = list(range(len(case.lengths)))
    order_seed.shuffle(order)  # type: ignore[attr-defined]
    tensors, arguments = tensors_of(case)
    bounds = boundaries_of(case.lengths).tolist()
    spans = [torch.arange(bounds[i], bounds[i + 1]) for i in order]
    tokens = torch.cat(spans)
    moved = dict(arguments, cu_seqlens=boundaries_of([case.lengths[i] for i in order]))
    if isinstance(visibility := arguments["visibility"], Visibility):
        fields = {name: getattr(visibility, name)[tokens] for name in ("step", "reach", "group")}
        moved["visibility"] = Visibility(**fields)
    if isinstance(positions := arguments["positions"], Tensor):
        moved["positions"] = positions[tokens]
    straight = output_and_gradients(tensors, arguments, torch.float64, backend)
    permuted = output_and_gradients(
        tuple(x[tokens] for x in tensors), moved, torch.float64, backend
    )
    for before, after in zip(straight, permuted, strict=True):
        assert_close(after, before[tokens], "gradient", torch.float64)


def test_past_outputs_ignore_the_future_to_the_last_bit(any_backend: str) -> None:
    tensors, arguments = tensors_of(Case([9], visibility="causal"))
    before = output_and_gradients(tensors, arguments, torch.float32, any_backend)[0]
    for x in tensors[:3]:
        x[6:] += 1.0
    after = output_and_gradients(tensors, arguments, torch.float32, any_backend)[0]
    assert torch.equal(before[:6], after[:6])
    assert not torch.equal(before[6:], after[6:])


def test_slices_of_one_projection_are_accepted(backend: str) -> None:
    """Encoders project q, k and v together: the three are strided views of one tensor."""
    (q, k, v, _), arguments = tensors_of(Case([4, 4, 2], head_dim=8))
    fused = torch.stack((q, k, v), dim=1)
    contiguous = attention(q, k, v, **arguments, backend=backend)
    strided = attention(*fused.unbind(1), **arguments, backend=backend)
    assert torch.equal(contiguous, strided)


def test_autocast_casts_mixed_inputs_like_a_matrix_product(
    any_backend: str, assert_close: AssertClose
) -> None:
    (q, k, v, _), arguments = tensors_of(Case([6, 3], visibility="causal"))
    q, k, v = q.float(), k.float(), v.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        output = attention(q, k, v, **arguments, backend=any_backend)
    assert output.dtype == torch.bfloat16
    expected = attention(
        *(x.bfloat16().double() for x in (q, k, v)),
        **arguments,
        backend="reference",
    )
    assert_close(output, expected, "value", torch.bfloat16)
