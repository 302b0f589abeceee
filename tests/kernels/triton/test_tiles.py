"""The tile list covers every token once; two tiles are skipped or run full only where they may."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm_kernels import Visibility
from seqmlm_kernels.triton.tile_kernels import SIZES, VISIT_LENGTH
from seqmlm_kernels.triton.tiles import TileTable
from seqmlm_kernels.visibility import pairs_within_window, visible_pairs
from tests.kernels.test_attention import VISIBILITIES, boundaries_of, integers, make_visibility
from tests.kernels.triton.tile_classes import classes_of, decoded

lengths_of_batches = st.lists(st.integers(0, 40), max_size=5)


@pytest.mark.parametrize("size", SIZES)
@settings(max_examples=25, deadline=None)
@given(lengths=lengths_of_batches, before=st.integers(0, 20), past_the_end=st.integers(0, 20))
def test_tiles_cover_every_token_once(
    size: int, lengths: list[int], before: int, past_the_end: int
) -> None:
    cu_seqlens = boundaries_of(lengths) + before
    tokens = before + sum(lengths) + past_the_end
    rows = TileTable(cu_seqlens, tokens).tile_list(size).tolist()
    used = [row for row in rows if row[0] < row[1]]
    covered = sorted(token for row in used for token in range(row[0], row[1]))
    assert covered == list(range(tokens))
    assert all(row[1] - row[0] <= size for row in used)
    for start, stop in pairwise(cu_seqlens.tolist()):
        own = [row for row in used if start <= row[0] < stop]
        assert all((row[2], row[3]) == (start, stop) for row in own)
        assert [row[0] for row in own] == list(range(start, stop, size))[::-1]
    sequences = range(before, before + sum(lengths))
    assert all(row[2] == row[3] for row in used if row[0] not in sequences)


def test_longest_sequence_comes_first() -> None:
    rows = TileTable(boundaries_of([3, 40, 17]), 60).tile_list(16)
    in_order = [row for row in rows.tolist() if row[0] < row[1]]
    assert [row[3] - row[2] for row in in_order] == [40, 40, 40, 17, 17, 3]


@pytest.mark.parametrize(
    "boundaries", [[0, 3, 2, 4], [0, 4, 2], [-1, 4], [0, 9]], ids=["falls", "ends", "low", "high"]
)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_boundaries_that_no_batch_has_stop_the_device(
    boundaries: list[int], dtype: torch.dtype
) -> None:
    """As they would on a GPU, where their values are read by nobody before."""
    with pytest.raises(RuntimeError, match="cu_seqlens of attention must not fall"):
        TileTable(torch.tensor(boundaries, dtype=dtype), 4)


@pytest.mark.parametrize(
    "boundaries", [[0, 3, 2, 4], [3, 1], [9, -5, 2]], ids=["falls", "backwards", "outside"]
)
@pytest.mark.parametrize("size", SIZES)
def test_no_token_has_two_owners_or_is_outside_whatever_the_boundaries(
    monkeypatch: pytest.MonkeyPatch, boundaries: list[int], size: int
) -> None:
    """Kernels that were launched before the assertion failed still run."""
    monkeypatch.setattr(torch, "_assert_async", lambda condition, message: None)
    rows = TileTable(torch.tensor(boundaries), 4).tile_list(size).tolist()
    assert sorted(token for row in rows for token in range(row[0], row[1])) == [0, 1, 2, 3]
    assert all(0 <= bound <= 4 for row in rows for bound in row[:4])
    assert all(row[2] <= row[3] for row in rows)


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        ([0, 2**32], False),
        ([-(2**31) - 1, -(2**31)], False),
        ([-(2**31), 0], False),
        ([-(2**31), -1], True),
        ([0, 2**31 - 1], True),
    ],
    ids=str,
)
def test_positions_whose_differences_pass_int32_stop_the_device(
    given: list[int], fits: bool
) -> None:
    positions = torch.tensor(given)
    table = TileTable(boundaries_of([2]), 2)
    if fits:
        assert table.positions(positions).tolist() == given
        assert table.positions(positions) is table.positions(positions)
    else:
        with pytest.raises(RuntimeError, match=r"positions of attention must fit in int32"):
            table.positions(positions)


def pairs_of(
    visibility: Visibility | None, positions: Tensor, window: int | None, length: int
) -> Tensor:
    """[queries, keys] bool."""
    pairs = torch.ones(length, length, dtype=torch.bool)
    if visibility is not None:
        pairs &= visible_pairs(visibility.step, visibility.reach, visibility.group)
    if window is not None:
        pairs &= pairs_within_window(positions, window)
    return pairs


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(VISIBILITIES),
    window=st.none() | st.integers(0, 40),
    seed=st.integers(0, 2**31),
)
def test_skipped_tiles_see_nothing_and_full_ones_everything(
    kind: str, window: int | None, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    visibility = make_visibility(kind, boundaries_of([64]), generator)
    if visibility is None and window is None:
        window = 5
    if visibility is not None:
        # Sorted, so that extremes of a tile say something.
        order = visibility.reach.argsort(stable=True)
        fields = (x[order] for x in (visibility.step, visibility.reach, visibility.group))
        visibility = Visibility(*fields)
    positions = integers(generator, 0, 80, 64).sort().values
    classes = classes_of(64, 16, visibility, positions, window)
    blocks = pairs_of(visibility, positions, window, 64).view(4, 16, 4, 16)
    assert not (blocks.any(3).any(1) & (classes == 0)).any()
    assert blocks.all(3).all(1)[classes == 2].all()


@settings(max_examples=8, deadline=None)
@given(
    length=st.sampled_from([530, 640]),
    order=st.sampled_from(["rising", "falling", "shuffled in blocks", "shuffled"]),
    is_causal=st.booleans(),
    window=st.sampled_from([0, 30, 300]),
    outer_is_queries=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_tiles_that_meet_are_visited_in_whatever_order_positions_come(
    length: int, order: str, is_causal: bool, window: int, outer_is_queries: bool, seed: int
) -> None:
    """Of more than 32 tiles, and in one case a last one that is not whole."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randperm((length + 9) // 10, generator=generator)
    positions = {
        "rising": torch.arange(length),
        "falling": -torch.arange(length),
        "shuffled in blocks": blocks.repeat_interleave(10)[:length] * 10 + torch.arange(length) % 7,
        "shuffled": torch.randperm(length, generator=generator),
    }[order]
    visibility = Visibility.causal(boundaries_of([length])) if is_causal else None
    classes = classes_of(
        length, 128, visibility, positions, window, inner=16, outer_is_queries=outer_is_queries
    )
    pairs = pairs_of(visibility, positions, window, length)
    pairs = pairs if outer_is_queries else pairs.T
    for row, queries in zip(classes, pairs.split(128), strict=True):
        for found, tile in zip(row.tolist(), queries.split(16, dim=1), strict=True):
            assert found > 0 or not tile.any()
            assert found < 2 or (tile.all() and tile.shape[1] == 16)


@pytest.mark.parametrize(
    ("kind", "skipped", "partial", "full"),
    [("bidirectional", 0, 0, 64), ("causal", 28, 8, 28)],
)
def test_tiles_of_well_known_rules_are_classified_exactly(
    kind: str, skipped: int, partial: int, full: int
) -> None:
    visibility = make_visibility(kind, boundaries_of([128]), torch.Generator())
    classes = classes_of(128, 16, visibility, torch.arange(128), None)
    assert classes.flatten().bincount(minlength=3).tolist() == [skipped, partial, full]


@pytest.mark.parametrize(
    ("window", "is_causal", "most_visits", "most_tiles"),
    [(64, False, 2, 4), (None, True, 2, 64)],
    ids=["window", "causal"],
)
def test_tile_of_a_long_row_visits_few_others(
    window: int | None, is_causal: bool, most_visits: int, most_tiles: int
) -> None:
    length = 4096
    visibility = Visibility.causal(boundaries_of([length])) if is_causal else None
    table = TileTable(torch.tensor([0, length]), length)
    visits = table.visits(
        128, 64, visibility, torch.arange(length).int() if window else None,
        window=window, max_seqlen=length, outer_is_queries=True,
    )  # fmt: skip
    used = visits[: length // 128]
    assert used[:, 0].max() == most_visits
    assert max(int((decoded(row, 64) > 0).sum()) for row in used) == most_tiles


def test_sequence_longer_than_the_longest_stops_the_device() -> None:
    table = TileTable(boundaries_of([3, 20]), 23)
    with pytest.raises(RuntimeError, match="must not be longer than max_seqlen"):
        visit_everything(table, max_seqlen=19)


def visit_everything(table: TileTable, max_seqlen: int) -> Tensor:
    visibility = Visibility.bidirectional(table.tokens)
    return table.visits(
        128, 16, visibility, None, window=None, max_seqlen=max_seqlen, outer_is_queries=True
    )


@pytest.mark.usefixtures("guard_bands")
def test_visits_beyond_the_longest_sequence_are_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kernels that were launched before the assertion failed still run."""
    monkeypatch.setattr(torch, "_assert_async", lambda condition, message: None)
    visits = visit_everything(TileTable(boundaries_of([600]), 600), max_seqlen=20)
    assert visits.shape[1] == 2 * VISIT_LENGTH.value
    assert (visits[:5, 0] == 1).all()


def test_window_leaves_a_band_of_tiles() -> None:
    classes = classes_of(128, 16, None, torch.arange(128, dtype=torch.int32), 16)
    distance = (torch.arange(8)[:, None] - torch.arange(8)).abs()
    assert torch.equal(classes > 0, distance <= 1)
    assert torch.equal(classes == 2, distance == 0)
