"""Attention kernels, interpreted, against the reference in fp64 and against first principles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm_kernels import BackendUnavailableError, Visibility, attention
from seqmlm_kernels.triton import attention as launcher
from seqmlm_kernels.triton import attention_closed_form, attention_plan
from seqmlm_kernels.triton.launch import AttentionLaunch
from tests.kernels.test_attention import (
    VISIBILITIES,
    Case,
    assert_matches_reference,
    boundaries_of,
    cases,
    output_and_gradients,
    tensors_of,
)
from tests.kernels.triton.guarded_memory import guarded_allocations, in_guarded_memory

# What numpy says of rows that lie past a sequence and that nobody reads.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) enc:RuntimeWarning")

AssertClose = Callable[..., None]
each_backward = pytest.mark.parametrize("backward", ["deterministic", "atomic"])
TINY = AttentionLaunch(outer=32, inner=16, num_warps=1, num_stages=1)


@pytest.fixture
def use_tiles(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Give all kernels the same small tiles, so that short sequences have many."""

    def use(outer: int, inner: int) -> None:
        launch = replace(TINY, outer=outer, inner=inner)
        monkeypatch.setattr(attention_plan, "table_launch", lambda key: launch)
        monkeypatch.setattr(attention_plan, "shortened", lambda key, general, length: general)

    return use


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
    use_tiles: Callable[[int, int], None],
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
    assert_close: AssertClose, use_tiles: Callable[[int, int], None], case: Case
) -> None:
    use_tiles(128, 16)
    assert_matches_reference(case, torch.float32, "triton", assert_close)


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


def test_log_sum_of_exponentials_is_in_nats() -> None:
    (q, k, v, _), arguments = tensors_of(Case([5], kv_heads=1, head_dim=4))
    _, log_sum = launcher.attention_forward(
        q.float(), k.float(), v.float(), arguments["cu_seqlens"],
        None, None, None, None, None, 5, 0.5, "deterministic",
    )  # fmt: skip
    expected = (0.5 * q.squeeze(1) @ k.squeeze(1).T).logsumexp(-1)
    torch.testing.assert_close(log_sum[0].double(), expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy on NaN
@pytest.mark.parametrize(
    ("visibility", "backward"),
    [("none", "deterministic"), ("causal", "deterministic"), ("causal", "atomic")],
    ids=["none", "causal", "atomic"],
)
@pytest.mark.parametrize("poisoned", range(3))
def test_poisoned_neighbour_changes_no_bit(
    use_tiles: Callable[[int, int], None], visibility: str, backward: str, poisoned: int
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
    use_tiles: Callable[[int, int], None], backward: str
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


def test_repeated_runs_are_bit_equal() -> None:
    tensors, arguments = tensors_of(Case([70, 9], visibility="pseudo_masked", window=30))
    first = output_and_gradients(tensors, arguments, torch.float32, "triton")
    second = output_and_gradients(tensors, arguments, torch.float32, "triton")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_slices_of_one_projection_are_read_in_place() -> None:
    (q, k, v, _), arguments = tensors_of(Case([4, 4, 2], head_dim=8))
    fused = torch.stack((q, k, v), dim=1).float()
    contiguous = attention(q.float(), k.float(), v.float(), **arguments, backend="triton")
    assert torch.equal(attention(*fused.unbind(1), **arguments, backend="triton"), contiguous)
    strided = [x.float().repeat_interleave(2, dim=-1)[..., ::2] for x in (q, k, v)]
    assert torch.equal(attention(*strided, **arguments, backend="triton"), contiguous)


def test_batch_of_empty_sequences_has_an_empty_result() -> None:
    tensors, arguments = tensors_of(Case([0, 0]))
    results = output_and_gradients(tensors, arguments, torch.float32, "triton")
    assert [x.shape[0] for x in results] == [0, 0, 0, 0]


@each_backward
@pytest.mark.parametrize("scale", [-0.7, 0.0], ids=str)
def test_scale_may_be_negative_or_zero(
    assert_close: AssertClose, scale: float, backward: str
) -> None:
    case = Case([9, 4], visibility="causal", scale=scale, backward=backward)
    assert_matches_reference(case, torch.float32, "triton", assert_close)


@pytest.mark.parametrize(
    ("backward", "launched"),
    [
        ("deterministic", ["launch_backward_queries", "launch_backward_keys"]),
        ("atomic", ["launch_backward_atomic"]),
    ],
    ids=["deterministic", "atomic"],
)
def test_backward_launches_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, backward: str, launched: list[str]
) -> None:
    calls: list[str] = []

    def record(name: str, launch: Callable[..., Any], *arguments: Any) -> Any:
        calls.append(name)
        return launch(*arguments)

    for name in ("launch_backward_queries", "launch_backward_keys", "launch_backward_atomic"):
        monkeypatch.setattr(launcher, name, partial(record, name, getattr(launcher, name)))
    tensors, arguments = tensors_of(Case([3], backward=backward))
    output_and_gradients(tensors, arguments, torch.float32, "triton")
    assert calls == launched


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


@pytest.mark.parametrize(
    ("dtype", "head_dim"), [(torch.float64, 8), (torch.float32, 512)], ids=["fp64", "head_dim"]
)
def test_what_the_kernels_do_not_have_is_refused(dtype: torch.dtype, head_dim: int) -> None:
    q = torch.zeros(2, 1, head_dim, dtype=dtype)
    with pytest.raises(BackendUnavailableError, match=r"head dimensions from 1 to 256.*'torch'"):
        attention(q, q, q, cu_seqlens=boundaries_of([2]), max_seqlen=2, backend="triton")


def operator_arguments(case: Case, backward: str) -> tuple[Any, ...]:
    (q, k, v, _), arguments = tensors_of(case)
    visibility = arguments["visibility"]
    q, k, v = (x.float().requires_grad_() for x in (q, k, v))
    return (
        q, k, v, arguments["cu_seqlens"], visibility.step, visibility.reach, visibility.group,
        arguments["positions"], case.window, arguments["max_seqlen"], 0.5, backward,
    )  # fmt: skip


@each_backward
def test_operators_pass_opcheck(backward: str) -> None:
    arguments = operator_arguments(
        Case([4, 2], kv_heads=1, visibility="causal", window=3, given_positions=True), backward
    )
    torch.library.opcheck(launcher.attention_forward, arguments)
    with torch.no_grad():
        output, log_sum = launcher.attention_forward(*arguments)
        inputs = (output.clone(), *arguments[:3], output, log_sum, *arguments[3:])
    detached = tuple(x.detach() if isinstance(x, Tensor) else x for x in inputs)
    torch.library.opcheck(launcher.attention_backward, detached)


@each_backward
def test_compiled_function_gives_the_same_numbers(backward: str) -> None:
    tensors, arguments = tensors_of(Case([9, 4], visibility="causal", backward=backward))

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q * 2, k, v, **arguments, backend="triton") + 1

    results = []
    for function in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
        operands = [x.float().requires_grad_() for x in tensors[:3]]
        output = function(*operands)
        torch.autograd.backward(output, tensors[3].float())
        results.append([output, *(x.grad for x in operands)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_gradient_checkpointing_gives_the_same_numbers() -> None:
    tensors, arguments = tensors_of(Case([9, 4], visibility="causal"))

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k, v, **arguments, backend="triton")

    results = []
    for checkpointed in (False, True):
        operands = [x.float().requires_grad_() for x in tensors[:3]]
        output = (
            torch.utils.checkpoint.checkpoint(run, *operands, use_reentrant=False)
            if checkpointed
            else run(*operands)
        )
        torch.autograd.backward(output, tensors[3].float())
        results.append([x.grad for x in operands])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_autocast_casts_to_its_dtype(assert_close: AssertClose) -> None:
    (q, k, v, _), arguments = tensors_of(Case([6, 3], visibility="causal"))
    with torch.autocast("cpu", torch.bfloat16):
        output = attention(q.float(), k.float(), v.float(), **arguments, backend="triton")
    assert output.dtype == torch.bfloat16
    rounded = (x.bfloat16().double() for x in (q, k, v))
    expected = attention(*rounded, **arguments, backend="reference")
    assert_close(output, expected, "value", torch.bfloat16)


@pytest.mark.parametrize(
    "case",
    [
        Case([5, 0, 3], kv_heads=2, heads_per_kv_head=3, visibility="pseudo_masked", scale=-0.7),
        Case([6, 1], visibility="causal", window=2, given_positions=True),
        Case([4, 4], window=1, backward="atomic"),
    ],
    ids=["visibility", "both", "window"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_operators_run_on_a_cpu_without_the_interpreter(
    monkeypatch: pytest.MonkeyPatch, assert_close: AssertClose, case: Case, dtype: torch.dtype
) -> None:
    """Chunks are of one query, so that gradients of keys are summed over several."""
    monkeypatch.setattr(launcher, "INTERPRETED", False)
    monkeypatch.setattr(launcher, "_launch_forward", None)
    monkeypatch.setattr(launcher, "_launch_backward", None)
    monkeypatch.setattr(attention_closed_form, "_SCORES_PER_CHUNK", 1)
    assert_matches_reference(case, dtype, "triton", assert_close)


def test_operators_on_a_cpu_pass_opcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "INTERPRETED", False)
    arguments = operator_arguments(Case([4, 2], kv_heads=1, visibility="causal"), "deterministic")
    torch.library.opcheck(launcher.attention_forward, arguments)
    nothing = torch.full((6,), -1, dtype=torch.int32)
    output, log_sum = launcher.attention_forward(
        *arguments[:4], nothing + 1, nothing, nothing, *arguments[7:]
    )
    assert output.eq(0).all()
    assert log_sum.isneginf().all()
