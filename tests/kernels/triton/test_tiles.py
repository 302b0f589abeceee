"""The tile list covers every token once; two tiles are skipped or run full only where they may."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm_kernels import Visibility, attention
from seqmlm_kernels.triton import tiles
from seqmlm_kernels.triton.tiles import SIZES, TileTable, tile_table
from seqmlm_kernels.visibility import pairs_within_window, visible_pairs
from tests.kernels.test_attention import VISIBILITIES, boundaries_of, integers, make_visibility
from tests.kernels.triton.classification_kernel import classify_all_kernel

lengths_of_batches = st.lists(st.integers(0, 40), max_size=5)


def classes_of(
    length: int, size: int, visibility: Visibility | None, positions: Tensor, window: int | None
) -> Tensor:
    """[tiles, tiles] of 0, 1, 2 for one sequence of a power of two of whole tiles."""
    table = TileTable(boundaries_of([length]), length)
    summary = table.summary(size, visibility, None if window is None else positions)
    count = length // size
    classes = torch.zeros(count, count, dtype=torch.int32)
    classify_all_kernel[(count,)](
        summary,
        summary,
        classes,
        summary.shape[1],
        window or 0,
        COUNT=count,
        HAS_VISIBILITY=visibility is not None,
        HAS_WINDOW=window is not None,
    )
    return classes


@pytest.mark.parametrize("size", SIZES)
@settings(max_examples=25, deadline=None)
@given(lengths=lengths_of_batches, past_the_end=st.integers(0, 20))
def test_tiles_cover_every_token_once(size: int, lengths: list[int], past_the_end: int) -> None:
    cu_seqlens = boundaries_of(lengths)
    tokens = sum(lengths) + past_the_end
    rows = TileTable(cu_seqlens, tokens).tile_list(size).tolist()
    used = [row for row in rows if row[0] < row[1]]
    covered = sorted(token for row in used for token in range(row[0], row[1]))
    assert covered == list(range(tokens))
    assert all(row[1] - row[0] <= size for row in used)
    for start, stop in pairwise(cu_seqlens.tolist()):
        own = [row for row in used if start <= row[0] < stop]
        assert all((row[2], row[3]) == (start, stop) for row in own)
        assert [row[0] for row in own] == list(range(start, stop, size))[::-1]
    assert all(row[2] == row[3] for row in used if row[0] >= sum(lengths))


def test_longest_sequence_comes_first() -> None:
    rows = TileTable(boundaries_of([3, 40, 17]), 60).tile_list(16)
    in_order = [row for row in rows.tolist() if row[0] < row[1]]
    assert [row[3] - row[2] for row in in_order] == [40, 40, 40, 17, 17, 3]


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


@pytest.fixture
def made_tables(monkeypatch: pytest.MonkeyPatch) -> list[TileTable]:
    """Tables that were made since the test began."""
    made: list[TileTable] = []

    class Counted(TileTable):
        def __init__(self, cu_seqlens: Tensor, tokens: int) -> None:
            super().__init__(cu_seqlens, tokens)
            made.append(self)

    monkeypatch.setattr(tiles, "TileTable", Counted)
    return made


def test_layers_and_backward_share_one_table(made_tables: list[TileTable]) -> None:
    cu_seqlens = boundaries_of([5, 3])
    visibility = Visibility.causal(cu_seqlens)
    positions = torch.arange(8)
    hidden = torch.randn(8, 1, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    x = hidden
    for window in (2, None, 2):
        x = attention(
            x, x, x, cu_seqlens=cu_seqlens, max_seqlen=5, visibility=visibility,
            positions=positions, window=window, backend="triton",
        )  # fmt: skip
    torch.autograd.backward(x.sum())
    assert len(made_tables) == 1


def test_changed_contents_make_a_new_table(made_tables: list[TileTable]) -> None:
    cu_seqlens = boundaries_of([5, 3])
    visibility = Visibility.causal(cu_seqlens)
    first = tile_table(cu_seqlens, visibility, None, tokens=8)
    assert tile_table(cu_seqlens, visibility, None, tokens=8) is first
    assert tile_table(cu_seqlens, None, None, tokens=8) is not first
    visibility.step.zero_()
    assert tile_table(cu_seqlens, visibility, None, tokens=8) is not first
    cu_seqlens[1] = 4
    assert tile_table(cu_seqlens, None, None, tokens=8) is made_tables[-1]
    assert len(made_tables) == 4


def test_tensors_that_record_no_changes_get_a_table_for_each_call() -> None:
    with torch.inference_mode():
        cu_seqlens = boundaries_of([5, 3])
        first = tile_table(cu_seqlens, None, None, tokens=8)
        assert tile_table(cu_seqlens, None, None, tokens=8) is not first


def test_cache_stays_small() -> None:
    kept = [boundaries_of([i + 1]) for i in range(20)]
    for i, cu_seqlens in enumerate(kept):
        tile_table(cu_seqlens, None, None, tokens=i + 1)
    assert len(tiles._cached_tables) == tiles._MOST_CACHED_TABLES
