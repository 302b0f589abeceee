"""The tile list covers every token once; two tiles are skipped or run full only where they may."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmlm_kernels import Visibility
from seqmlm_kernels.triton.tiles import SIZES, TileTable
from seqmlm_kernels.visibility import pairs_within_window, visible_pairs
from tests.kernels.test_attention import VISIBILITIES, boundaries_of, integers, make_visibility
from tests.kernels.triton.classification_kernel import classes_of

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
    pairs = torch.ones(64, 64, dtype=torch.bool)
    if visibility is not None:
        pairs &= visible_pairs(visibility.step, visibility.reach, visibility.group)
    if window is not None:
        pairs &= pairs_within_window(positions, window)
    blocks = pairs.view(4, 16, 4, 16)
    assert not (blocks.any(3).any(1) & (classes == 0)).any()
    assert blocks.all(3).all(1)[classes == 2].all()


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


def test_window_leaves_a_band_of_tiles() -> None:
    classes = classes_of(128, 16, None, torch.arange(128, dtype=torch.int32), 16)
    distance = (torch.arange(8)[:, None] - torch.arange(8)).abs()
    assert torch.equal(classes > 0, distance <= 1)
    assert torch.equal(classes == 2, distance == 0)
