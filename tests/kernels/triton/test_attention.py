"""Attention kernels, interpreted, against the reference in fp64 and against first principles."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm_kernels import Visibility, attention
from seqmlm_kernels.triton import attention as launcher
from tests.kernels.test_attention import (
    VISIBILITIES,
    Case,
    assert_matches_reference,
    boundaries_of,
    cases,
    tensors_of,
)
from tests.kernels.triton.guarded_memory import guarded_allocations

# What numpy says of rows that lie past a sequence and that nobody reads.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) enc:RuntimeWarning")

AssertClose = Callable[..., None]
UseTiles = Callable[[int, int], None]
each_backward = pytest.mark.parametrize("backward", ["deterministic", "atomic"])


@settings(max_examples=12, deadline=None)
@given(case=cases)
def test_short_sequences_match_reference(assert_close: AssertClose, case: Case) -> None:
    assert_matches_reference(case, torch.float32, "triton", assert_close)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    case=st.builds(
        Case,
        lengths=st.lists(st.sampled_from([0, 1, 15, 16, 17, 45]), min_size=1, max_size=3),
        kv_heads=st.just(1),
        heads_per_kv_head=st.integers(1, 2),
        head_dim=st.sampled_from([8, 16]),
        visibility=st.sampled_from(VISIBILITIES),
        window=st.none() | st.sampled_from([0, 3, 20]),
        given_positions=st.booleans(),
        backward=st.sampled_from(["deterministic", "atomic"]),
        seed=st.integers(0, 2**31),
    ),
    tiles=st.sampled_from([(16, 16), (32, 16), (16, 32)]),
)
def test_sequences_of_many_tiles_match_reference(
    assert_close: AssertClose,
    use_tiles: UseTiles,
    case: Case,
    tiles: tuple[int, int],
) -> None:
    use_tiles(*tiles)
    with guarded_allocations() as check:
        assert_matches_reference(case, torch.float32, "triton", assert_close)
        check()


@each_backward
@pytest.mark.parametrize("head_dim", [32, 64, 96, 128, 192])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["fp32", "fp16", "bf16"]
)
def test_head_dimensions_and_dtypes_match_reference(
    assert_close: AssertClose, head_dim: int, dtype: torch.dtype, backward: str
) -> None:
    """Tiles are those of the table; 70 tokens are more than any of its sets for short ones."""
    case = Case([70, 0, 1], head_dim=head_dim, kv_heads=1, visibility="causal", backward=backward)
    with guarded_allocations() as check:
        assert_matches_reference(case, dtype, "triton", assert_close)
        check()


@pytest.mark.parametrize(
    "case",
    [
        Case([560], head_dim=8, kv_heads=1, window=20),
        Case([3, 530, 20], head_dim=8, kv_heads=1, visibility="causal"),
    ],
    ids=["window", "causal"],
)
def test_more_key_tiles_than_are_classified_at_a_time_match_reference(
    assert_close: AssertClose, use_tiles: UseTiles, case: Case
) -> None:
    use_tiles(128, 16)
    assert_matches_reference(case, torch.float32, "triton", assert_close)


LOWEST, HIGHEST = -(2**31), 2**31 - 1
FAR_APART = {
    "lowest": [LOWEST, LOWEST + 1, LOWEST + 5, -(2**30), -2, -1],
    "highest": [HIGHEST, 0, 1, 2**30, HIGHEST - 1, 5],
}


@pytest.mark.parametrize("visibility", [None, "causal"], ids=str)
@pytest.mark.parametrize("window", [0, 1, 5, 2**30, HIGHEST - 1, HIGHEST, 2**40])
@pytest.mark.parametrize("positions", FAR_APART.values(), ids=FAR_APART)
def test_windows_of_positions_that_are_far_apart_match_reference(
    assert_close: AssertClose, positions: list[int], window: int, visibility: str | None
) -> None:
    """Up to what int32 holds, in two sequences of less than a tile."""
    cu_seqlens = torch.tensor([0, 6, 12]).int()
    generator = torch.Generator().manual_seed(0)
    operands = [torch.randn(12, 1, 8, generator=generator) for _ in range(3)]
    found, expected = (
        attention(
            *(x.to(dtype) for x in operands), cu_seqlens=cu_seqlens, max_seqlen=6,
            visibility=Visibility.causal(cu_seqlens) if visibility else None,
            positions=torch.tensor(positions * 2), window=window, backend=backend,
        )
        for backend, dtype in (("triton", torch.float32), ("reference", torch.float64))
    )  # fmt: skip
    assert_close(found, expected, "value", torch.float32)


# x1 M2 x3 M4 M5 x6 P4 P5 x4 x5 P2 x2: six tokens, {2, 4, 5} masked, predicted {4, 5} before {2}.
WORKED_EXAMPLE = [
    *["111111000000"] * 6,
    *["111111110000"] * 2,
    *["111111001100"] * 2,
    "111111001110",
    "111111001101",
]
NOT_READ = torch.iinfo(torch.int32).max


def who_sees_whom(visibility: Visibility, lengths: list[int], size: int) -> Tensor:
    """[T, size] bool by attending with equal scores to one-hot values."""
    cu_seqlens = boundaries_of(lengths)
    tokens = int(cu_seqlens[-1])
    index = torch.arange(tokens) - cu_seqlens[:-1].repeat_interleave(cu_seqlens.diff())
    v = torch.nn.functional.one_hot(index.long(), size).float().unsqueeze(1)
    zeros = torch.zeros_like(v)
    output = attention(
        zeros, zeros, v, cu_seqlens=cu_seqlens, max_seqlen=max(lengths), visibility=visibility,
        backend="triton",
    )  # fmt: skip
    return output.squeeze(1) > 0


def test_worked_example_of_pseudo_masking() -> None:
    visibility = Visibility(
        step=torch.tensor([0] * 6 + [NOT_READ] * 2 + [1, 1, NOT_READ, 2], dtype=torch.int32),
        reach=torch.tensor([0] * 6 + [0, 0, 1, 1, 1, 2], dtype=torch.int32),
        group=torch.tensor([-1] * 6 + [1, 1, -1, -1, 2, -1], dtype=torch.int32),
    )
    seen = who_sees_whom(visibility, [12], 16)[:, :12]
    assert ["".join(map(str, row)) for row in seen.int().tolist()] == WORKED_EXAMPLE


def test_random_layouts_agree_with_the_signed_integers_of_unilm() -> None:
    """One integer w a token (Bao et al. 2020): 0 context, s true token of step s, -s its [P]."""
    generator = torch.Generator().manual_seed(0)
    lengths = [1 + i % 16 for i in range(200)]
    w = torch.randint(-3, 4, (sum(lengths),), generator=generator, dtype=torch.int32)
    pseudo = w < 0
    visibility = Visibility(
        step=torch.where(pseudo, NOT_READ, w),
        reach=torch.where(pseudo, -w - 1, w),
        group=torch.where(pseudo, -w, -1),
    )
    seen = who_sees_whom(visibility, lengths, 16)
    start = 0
    for length in lengths:
        i, j = w[start : start + length, None], w[None, start : start + length]
        true = (i >= 0) & (j >= 0) & (j <= i)
        expected = true | ((i < 0) & (j >= 0) & (-i > j)) | ((i < 0) & (j == i))
        found = seen[start : start + length]
        assert torch.equal(found[:, :length], expected)
        assert not found[:, length:].any()
        start += length


def test_log_sum_of_exponentials_has_base_two() -> None:
    (q, k, v, _), arguments = tensors_of(Case([5], kv_heads=1, head_dim=4))
    _, log_sum = launcher.attention_forward(
        q.float(), k.float(), v.float(), arguments["cu_seqlens"],
        None, None, None, None, None, 5, 0.5, "deterministic",
    )  # fmt: skip
    expected = (0.5 * q.squeeze(1) @ k.squeeze(1).T).logsumexp(-1) / math.log(2)
    torch.testing.assert_close(log_sum[0].double(), expected, rtol=0, atol=1e-5)


def test_slices_of_one_projection_are_read_in_place() -> None:
    (q, k, v, _), arguments = tensors_of(Case([4, 4, 2], head_dim=8))
    fused = torch.stack((q, k, v), dim=1).float()
    contiguous = attention(q.float(), k.float(), v.float(), **arguments, backend="triton")
    assert torch.equal(attention(*fused.unbind(1), **arguments, backend="triton"), contiguous)
    strided = [x.float().repeat_interleave(2, dim=-1)[..., ::2] for x in (q, k, v)]
    assert torch.equal(attention(*strided, **arguments, backend="triton"), contiguous)


@each_backward
@pytest.mark.parametrize("scale", [-0.7, 0.0], ids=str)
def test_scale_may_be_negative_or_zero(
    assert_close: AssertClose, scale: float, backward: str
) -> None:
    case = Case([9, 4], visibility="causal", scale=scale, backward=backward)
    assert_matches_reference(case, torch.float32, "triton", assert_close)
