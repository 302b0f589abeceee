"""Which launches a call gets: every decision of the launcher, taken and not taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from seqmlm_kernels.triton.attention_plan import AttentionPlan, ChooseLaunch, plan_attention
from seqmlm_kernels.triton.launch import (
    AttentionLaunch,
    Kind,
    LaunchKey,
    input_precision_of,
    must_upcast,
    on_device,
    table_launch,
)

KINDS: Any = ("forward", "backward_queries", "backward_keys", "backward_atomic")
ARCHITECTURES: Any = ("sm_80", "sm_90", "sm_100", "gfx942", "small_shared_memory")


def plan(
    *,
    head_dim: int = 64,
    heads: int = 2,
    dtype: torch.dtype = torch.bfloat16,
    has_visibility: bool = False,
    has_window: bool = False,
    scale: float = 0.1,
) -> AttentionPlan:
    return plan_attention(
        device=torch.device("cpu"),
        dtype=dtype,
        heads=heads,
        kv_heads=2,
        head_dim=head_dim,
        has_visibility=has_visibility,
        has_window=has_window,
        scale=scale,
        upcast=must_upcast(dtype),
        input_precision=input_precision_of(dtype),
    )


def launches(
    kind: Kind = "forward",
    *,
    num_sequences: int = 1,
    tokens: int = 1,
    max_seqlen: int = 1000,
    dtype: torch.dtype = torch.bfloat16,
    choose: ChooseLaunch | None = None,
) -> tuple[AttentionLaunch, ...]:
    return plan(dtype=dtype).launches(
        kind,
        max_seqlen=max_seqlen,
        num_sequences=num_sequences,
        tokens=tokens,
        choose=choose,
    )


@pytest.fixture
def tf32_allowed() -> Iterator[None]:
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(precision)


@pytest.mark.parametrize(
    ("head_dim", "padded"), [(1, 16), (16, 16), (32, 32), (64, 64), (96, 128), (128, 128)]
)
def test_head_dimension_is_padded_to_a_power_of_two(head_dim: int, padded: int) -> None:
    assert plan(head_dim=head_dim).padded_head_dim == padded


@pytest.mark.parametrize(
    ("max_seqlen", "tile"), [(0, 16), (16, 16), (17, 32), (32, 32), (33, 64), (64, 64), (65, 128)]
)
def test_short_sequences_get_a_tile_of_their_own_size(max_seqlen: int, tile: int) -> None:
    for kind in KINDS:
        (launch,) = launches(kind, max_seqlen=max_seqlen)
        assert launch.outer == tile


def test_launches_are_chosen_only_of_the_kind_that_is_asked_for() -> None:
    kinds: list[str] = []

    def choose(key: LaunchKey, device: torch.device) -> AttentionLaunch:
        kinds.append(key.kind)
        return table_launch(key)

    assert launches("backward_atomic", choose=choose) == launches("backward_atomic")
    assert kinds == ["backward_atomic"]


def test_calls_of_one_kind_share_a_plan() -> None:
    assert plan() is plan()
    assert plan(has_window=True) is not plan()


def test_length_of_long_sequences_decides_nothing() -> None:
    assert launches(max_seqlen=65) == launches(max_seqlen=1 << 20)


@pytest.mark.parametrize(
    ("changes", "tiles"),
    [
        ({}, [("long", 128), ("short", 32)]),
        ({"tokens": 64 * 40}, [("long", 128), ("short", 32)]),
        ({"tokens": 64 * 40 + 1}, [("any", 128)]),
        ({"tokens": 16 * 40}, [("long", 128), ("short", 16)]),
        ({"tokens": 16 * 40 + 1}, [("long", 128), ("short", 32)]),
        ({"max_seqlen": 65}, [("long", 128), ("short", 32)]),
        ({"max_seqlen": 64}, [("any", 64)]),
        ({"num_sequences": 32}, [("long", 128), ("short", 32)]),
        ({"num_sequences": 31}, [("any", 128)]),
    ],
    ids=str,
)
def test_short_sequences_beside_long_ones_get_a_launch_of_their_own(
    changes: dict[str, Any], tiles: list[tuple[str, int]]
) -> None:
    given: dict[str, Any] = {"num_sequences": 40, "tokens": 40 * 31, "max_seqlen": 600} | changes
    for kind in KINDS:
        assert [(launch.lengths, launch.outer) for launch in launches(kind, **given)] == tiles


def test_all_sequences_get_the_small_tiles_of_fp32() -> None:
    found = launches(num_sequences=40, tokens=40 * 20, max_seqlen=600, dtype=torch.float32)
    assert [(launch.lengths, launch.outer) for launch in found] == [("any", 16)]


def test_launch_that_is_no_smaller_than_the_general_one_is_not_made() -> None:
    general = AttentionLaunch(outer=32, inner=32, num_warps=4, num_stages=2)
    found = launches(
        num_sequences=40, tokens=40 * 20, max_seqlen=600, choose=lambda key, device: general
    )
    assert found == (general,)


def test_what_restricts_the_pairs_is_compiled_in_only_where_it_is_given() -> None:
    found = plan()
    assert (found.has_visibility, found.has_window) == (False, False)
    assert plan(has_visibility=True).has_visibility
    assert plan(has_window=True).has_window
    assert plan(has_window=True).keys["forward"].is_restricted


def test_query_heads_share_key_value_heads() -> None:
    assert plan(heads=6).heads_per_kv_head == 3


@pytest.mark.parametrize(
    ("scale", "sign", "positive"), [(0.3, 1.0, 0.3), (-0.3, -1.0, 0.3), (0.0, 0.0, 1.0)], ids=str
)
def test_kernels_get_a_positive_scale(scale: float, sign: float, positive: float) -> None:
    found = plan(scale=scale)
    assert (found.query_sign, found.scale) == (sign, positive)


def test_only_the_bfloat16_of_the_interpreter_is_upcast() -> None:
    assert plan(dtype=torch.bfloat16).upcast
    assert not plan(dtype=torch.float16).upcast
    assert not plan(dtype=torch.float32).upcast


def test_fp32_is_exact_by_default() -> None:
    found = plan(dtype=torch.float32)
    assert found.input_precision == found.keys["forward"].input_precision == "ieee"
    assert [launch.outer for launch in launches(dtype=torch.float32)] == [16]


@pytest.mark.usefixtures("tf32_allowed")
def test_fp32_uses_tf32_where_torch_allows_it() -> None:
    assert plan(dtype=torch.float32).input_precision == "tf32"
    assert [launch.outer for launch in launches(dtype=torch.float32)] == [64]
    assert plan(dtype=torch.float16).input_precision == "ieee"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_every_launch(architecture: Any) -> None:
    for kind in KINDS:
        for padded_head_dim in (16, 32, 64, 128, 256):
            launch = table_launch(
                LaunchKey.of(
                    kind,
                    architecture=architecture,
                    padded_head_dim=padded_head_dim,
                    dtype=torch.float16,
                    is_restricted=False,
                )
            )
            assert launch.inner <= launch.outer


def test_kernels_are_launched_on_the_device_of_their_tensors() -> None:
    assert isinstance(on_device(torch.device("cpu")), nullcontext)
    second = on_device(torch.device("cuda:1"))
    assert isinstance(second, torch.cuda.device)
    assert second.idx == 1
