"""Short sequences beside long ones: a tile list and a launch for each, in one call of attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm_kernels import attention, attention_layout
from seqmlm_kernels.triton.attention_launches import AttentionBatch
from seqmlm_kernels.triton.launch import AttentionLaunch
from seqmlm_kernels.triton.tile_kernels import SIZES
from seqmlm_kernels.triton.tiles import SHORT, Lengths, TileTable
from tests.kernels.test_attention import (
    VISIBILITIES,
    Case,
    assert_matches_reference,
    boundaries_of,
    output_and_gradients,
    tensors_of,
)
from tests.kernels.triton.guarded_memory import guarded_allocations

# What numpy says of rows that lie past a sequence and that nobody reads.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) enc:RuntimeWarning")

AssertClose = Callable[..., None]
each_backward = pytest.mark.parametrize("backward", ["deterministic", "atomic"])
# Around the length that parts them; a mean of 25 tokens.
MIXED = [0, 1, 63, 64, 65, 130, *[7, 0, 19] * 10]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Lengths, int]]:
    """Which sequences each launch was for, and the size of its tiles."""
    launches: list[tuple[Lengths, int]] = []

    class Recorded(AttentionBatch):
        def constants(self, launch: AttentionLaunch) -> dict[str, Any]:
            launches.append((launch.lengths, launch.outer))
            return super().constants(launch)

    monkeypatch.setattr("seqmlm_kernels.triton.attention.AttentionBatch", Recorded)
    return launches


@pytest.mark.parametrize("size", SIZES)
@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(
        st.sampled_from([0, 1, 15, 63, 64, 65, 130]) | st.integers(0, 300), max_size=9
    ),
    before=st.sampled_from([0, 3, 64, 65]),
    past_the_end=st.sampled_from([0, 3, 64, 65]),
)
def test_two_lists_share_the_tiles_of_one(
    size: int, lengths: list[int], before: int, past_the_end: int
) -> None:
    table = TileTable(boundaries_of(lengths) + before, before + sum(lengths) + past_the_end)

    def rows_of(which: Lengths) -> list[list[int]]:
        rows = table.tile_list(size, which)
        assert len(rows) == table.capacity(size, which)
        return [row for row in rows.tolist() if row[0] < row[1]]

    short, long = rows_of("short"), rows_of("long")
    assert sorted(short + long) == sorted(rows_of("any"))
    # Tokens outside of all sequences have none: their tiles are those of a run of so many tokens.
    assert all(row[3] - row[2] <= SHORT for row in short)
    assert all(row[3] - row[2] > SHORT for row in long if row[2] < row[3])


def test_many_short_sequences_add_no_programs_to_the_launch_of_the_long_ones() -> None:
    table = TileTable(boundaries_of([8] * 1000 + [1000]), 9000)
    assert table.capacity(128, "any") == 70 + 1003
    assert table.capacity(128, "long") == 70 + 140


@each_backward
@pytest.mark.parametrize(
    ("visibility", "window"), [("none", None), ("causal", 9)], ids=["all", "causal window"]
)
def test_mixed_lengths_match_reference(
    launched: list[tuple[Lengths, int]],
    assert_close: AssertClose,
    backward: str,
    visibility: str,
    window: int | None,
) -> None:
    case = Case(
        MIXED, kv_heads=1, head_dim=16, visibility=visibility, window=window, backward=backward
    )
    with guarded_allocations() as check:
        assert_matches_reference(case, torch.float16, "triton", assert_close)
        check()
    assert launched == [("long", 128), ("short", 32)] * (3 if backward == "deterministic" else 2)


def test_long_sequence_of_a_thousand_tokens_matches_reference(
    launched: list[tuple[Lengths, int]], assert_close: AssertClose
) -> None:
    """A mean below 16: short sequences have several tiles too."""
    case = Case([1000, *[0, 3] * 40, 20], kv_heads=1, head_dim=16, visibility="pseudo_masked")
    assert_matches_reference(case, torch.bfloat16, "triton", assert_close)
    assert launched == [("long", 128), ("short", 16)] * 3


@settings(max_examples=4, deadline=None)
@given(
    long=st.lists(st.sampled_from([65, 66, 97, 128, 129]), min_size=1, max_size=2),
    short=st.lists(st.sampled_from([0, 1, 2, 15, 16, 17, 31, 33, 63, 64]), max_size=4),
    first=st.booleans(),
    visibility=st.sampled_from(VISIBILITIES),
    window=st.none() | st.sampled_from([0, 3, 40]),
    backward=st.sampled_from(["deterministic", "atomic"]),
    seed=st.integers(0, 2**31),
)
def test_any_mixture_of_lengths_matches_reference(
    assert_close: AssertClose,
    long: list[int],
    short: list[int],
    first: bool,
    visibility: str,
    window: int | None,
    backward: str,
    seed: int,
) -> None:
    lengths = [*long, *short] if first else [*short, *long]
    case = Case(
        [*lengths, *[0] * 32], kv_heads=1, heads_per_kv_head=2, head_dim=16,
        visibility=visibility, window=window, backward=backward, seed=seed,
    )  # fmt: skip
    with guarded_allocations() as check:
        assert_matches_reference(case, torch.float16, "triton", assert_close)
        check()


def test_repeated_runs_are_bit_equal() -> None:
    tensors, arguments = tensors_of(Case(MIXED, kv_heads=1, head_dim=16, visibility="causal"))
    first = output_and_gradients(tensors, arguments, torch.float16, "triton")
    second = output_and_gradients(tensors, arguments, torch.float16, "triton")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_long_sequences_get_the_bits_that_they_get_alone() -> None:
    case = Case([130, *[7, 0, 19] * 12], kv_heads=1, head_dim=16)
    (q, k, v, _), arguments = tensors_of(case)
    q, k, v = (x.half() for x in (q, k, v))
    together = attention(q, k, v, **arguments, backend="triton")
    alone = attention(
        q[:130], k[:130], v[:130], cu_seqlens=boundaries_of([130]), max_seqlen=130, backend="triton"
    )
    assert torch.equal(together[:130], alone)


def test_compiled_layers_give_the_same_numbers_and_share_their_lists(
    launched: list[tuple[Lengths, int]], made_tables: list[TileTable]
) -> None:
    (q, k, v, _), arguments = tensors_of(Case(MIXED, kv_heads=1, head_dim=16))
    q, k, v = (x.half() for x in (q, k, v))

    def run(q: Tensor, cu_seqlens: Tensor) -> Tensor:
        layout = attention_layout(cu_seqlens, positions=torch.arange(len(q)))
        for _ in range(2):
            q = attention(
                q, k, v, cu_seqlens=layout.cu_seqlens, max_seqlen=130, positions=layout.positions,
                window=30, backend="triton",
            )  # fmt: skip
        return q

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    expected = run(q, arguments["cu_seqlens"])
    assert torch.equal(compiled(q, arguments["cu_seqlens"]), expected)
    assert launched == [("long", 128), ("short", 32)] * 4
    assert [len(table._lists) for table in made_tables] == [3, 3]
