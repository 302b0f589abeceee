"""The tile list covers every token once; two tiles are skipped or run full only where they may."""

from __future__ import annotations

import gc
import importlib
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm.data.packing import pack
from seqmlm.domain import Domain
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Row
from seqmlm_kernels import AttentionLayout, Visibility, attention, attention_layout
from seqmlm_kernels.triton import attention_plan, tiles
from seqmlm_kernels.triton.launch import AttentionLaunch
from seqmlm_kernels.triton.tiles import SIZES, TileTable, tile_table
from seqmlm_kernels.visibility import pairs_within_window, visible_pairs
from tests.kernels.test_attention import VISIBILITIES, boundaries_of, integers, make_visibility
from tests.kernels.triton.classification_kernel import classify_all_kernel

# The package has a function of this name.
attention_layout_module = importlib.import_module("seqmlm_kernels.attention_layout")
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


NOT_READ = torch.iinfo(torch.int32).max
TINY = AttentionLaunch(outer=16, inner=16, num_warps=1, num_stages=1)


def random_layout(length: int, generator: torch.Generator) -> Tensor:
    """One integer w a token (Bao et al. 2020): 0 context, s true token of step s, -s its [P].

    The context first and then the steps in their order, as rows are built; every fifth layout is
    in no order at all.
    """
    w = integers(generator, -3, 4, length)
    if int(integers(generator, 0, 5, 1)) == 0:
        return w
    # Half of the layouts are mostly context.
    w = torch.where(integers(generator, 0, 2, length) < integers(generator, 0, 2, 1), 0, w)
    return w[w.abs().argsort(stable=True)]


def seen_pairs(w: Tensor) -> Tensor:
    """[L, L] bool: a [P] sees what was predicted before its step, and its fellows."""
    i, j = w[:, None], w[None, :]
    true = (i >= 0) & (j >= 0) & (j <= i)
    return true | ((i < 0) & (j >= 0) & (-i > j)) | ((i < 0) & (j == i))


def dense_attention(q: Tensor, k: Tensor, v: Tensor, pairs: Tensor) -> Tensor:
    """Of one sequence and one head, from its pairs; a query that sees nothing gets zeros."""
    scores = (q @ k.T * 0.5).masked_fill(~pairs, -torch.inf)
    blind = ~pairs.any(1, keepdim=True)
    return torch.where(blind, 0.0, torch.softmax(scores.masked_fill(blind, 0.0), dim=1)) @ v


def visibility_of(w: Tensor) -> Visibility:
    pseudo = w < 0
    return Visibility(
        step=torch.where(pseudo, NOT_READ, w),
        reach=torch.where(pseudo, -w - 1, w),
        group=torch.where(pseudo, -w, -1),
    )


# 16 to a tile: two of them, and four whole ones in every twentieth layout.
LAYOUT_LENGTHS = [17 + i % 16 if i % 20 else 64 for i in range(200)]


@pytest.fixture
def layouts(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """200 random layouts, of sixteen tokens to a tile."""
    monkeypatch.setattr(attention_plan, "table_launch", lambda key: TINY)
    monkeypatch.setattr(attention_plan, "shortened", lambda key, general, length: general)
    generator = torch.Generator().manual_seed(0)
    return [random_layout(length, generator) for length in LAYOUT_LENGTHS]


def attend_by_both(layouts: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """(leaves, output) of the kernels, and of `dense_attention` in fp64."""
    generator = torch.Generator().manual_seed(1)
    lengths = [len(layout) for layout in layouts]
    operands = [torch.randn(sum(lengths), 1, 4, generator=generator) for _ in range(3)]
    leaves = [x.clone().requires_grad_() for x in operands]
    output = attention(
        *leaves, cu_seqlens=boundaries_of(lengths), max_seqlen=64,
        visibility=visibility_of(torch.cat(layouts)), scale=0.5, backend="triton",
    )  # fmt: skip
    exact = [x.double().requires_grad_() for x in operands]
    parts = (x.squeeze(1).split(lengths) for x in exact)
    expected = [
        dense_attention(q, k, v, seen_pairs(layout))
        for q, k, v, layout in zip(*parts, layouts, strict=True)
    ]
    return [*leaves, output], [*exact, torch.cat(expected).unsqueeze(1)]


@pytest.mark.slow
def test_random_layouts_of_several_tiles_agree_with_the_signed_integers_of_unilm(
    layouts: list[Tensor],
) -> None:
    (*_, found), (*_, expected) = attend_by_both(layouts)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_gradients_of_random_layouts_agree_with_the_signed_integers_of_unilm(
    layouts: list[Tensor],
) -> None:
    """Of a quarter of them: a program takes the interpreter 30 ms, and has two more to run."""
    gradients = []
    for *leaves, output in attend_by_both(layouts[::4]):
        above = torch.randn(output.shape, generator=torch.Generator().manual_seed(2))
        gradients.append(torch.autograd.grad(output, leaves, above.to(output.dtype)))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_tiles_of_random_layouts_are_skipped_run_in_full_and_masked(
    layouts: list[Tensor],
) -> None:
    """Of those with four whole tiles, which are in the test of gradients as well."""
    counts = torch.zeros(3, dtype=torch.int64)
    for w in layouts[::20]:
        classes = classes_of(64, 16, visibility_of(w), w, None)
        counts += classes.flatten().bincount(minlength=3)
    assert (counts >= 5).all(), counts


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


@pytest.mark.parametrize("mode", [nullcontext, torch.inference_mode], ids=["train", "infer"])
def test_layers_and_backward_share_the_table_of_a_layout(
    mode: Callable[[], AbstractContextManager[object]], made_tables: list[TileTable]
) -> None:
    with mode():
        cu_seqlens = boundaries_of([5, 3])
        layout = attention_layout(
            cu_seqlens, visibility=Visibility.causal(cu_seqlens), positions=torch.arange(8)
        )
        x = torch.randn(8, 1, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        for window in (2, None, 2):
            x = attention(
                x, x, x, cu_seqlens=layout.cu_seqlens, max_seqlen=5, visibility=layout.visibility,
                positions=layout.positions, window=window, backend="triton",
            )  # fmt: skip
    if x.requires_grad and not x.is_inference():
        torch.autograd.backward(x.sum())
    assert len(made_tables) == 1


def test_layers_of_an_encoder_share_one_table_in_inference(
    build_model: Callable[..., Model], words: Domain, made_tables: list[TileTable]
) -> None:
    """Its tensors record no changes, so that no cache could tell what they hold."""
    encoder = build_model(words, layers=3, window=2, global_every=2, backend="triton").encoder
    batch = pack([Row.of(words.parse(text)) for text in ("abc def", "ab")])
    with torch.inference_mode():
        found = encoder(batch)
        assert len(made_tables) == 1
        encoder.backend = "reference"
        torch.testing.assert_close(found, encoder(batch), rtol=0, atol=1e-3)


def test_compiled_layers_share_the_table_of_a_layout(made_tables: list[TileTable]) -> None:
    def run(x: Tensor, cu_seqlens: Tensor) -> Tensor:
        layout = attention_layout(cu_seqlens, positions=torch.arange(8))
        for _ in range(2):
            x = attention(
                x, x, x, cu_seqlens=layout.cu_seqlens, max_seqlen=5, positions=layout.positions,
                backend="triton",
            )  # fmt: skip
        return x

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    x = torch.randn(8, 1, 4, generator=torch.Generator().manual_seed(0))
    for lengths in ([5, 3], [3, 5]):
        made_tables.clear()
        found = compiled(x, boundaries_of(lengths))
        assert len(made_tables) == 1
        assert torch.equal(found, run(x, boundaries_of(lengths)))


def test_layout_is_not_that_of_other_tensors() -> None:
    cu_seqlens = boundaries_of([5, 3])
    layout = attention_layout(
        cu_seqlens, visibility=Visibility.causal(cu_seqlens), positions=torch.arange(8)
    )
    own, visibility, positions = layout.cu_seqlens, layout.visibility, layout.positions
    first = tile_table(own, visibility, positions, tokens=8)
    assert tile_table(own, visibility, positions, tokens=8) is first
    assert tile_table(own, None, positions, tokens=8) is not first
    assert tile_table(own, Visibility.causal(cu_seqlens), positions, tokens=8) is not first
    assert tile_table(own, visibility, torch.arange(8), tokens=8) is not first
    assert tile_table(own, visibility, None, tokens=8) is not first
    assert tile_table(cu_seqlens, visibility, positions, tokens=8) is not first


def test_layout_keeps_what_the_batch_held_when_it_was_made() -> None:
    """Writes through numpy, or to ``data``, leave no trace that a cache could look for."""
    memory = np.array([0, 5, 8])
    cu_seqlens = torch.from_numpy(memory)
    layout = attention_layout(cu_seqlens, positions=torch.arange(8))
    memory[1] = 1
    assert layout.cu_seqlens.tolist() == [0, 5, 8]
    x = torch.randn(8, 1, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        found = attention(x, x, x, cu_seqlens=cu_seqlens, max_seqlen=8, backend="triton")
        expected = attention(x, x, x, cu_seqlens=cu_seqlens, max_seqlen=8, backend="reference")
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        memory[1] = 7


def test_tables_of_a_capture_are_not_those_of_calls_outside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They hold nothing before the graph is replayed, and are computed in each replay."""

    def capturing(now: bool) -> None:
        for module in (attention_layout_module, tiles):
            monkeypatch.setattr(module, "is_capturing", lambda device: now)

    def table_of(layout: AttentionLayout) -> TileTable:
        return tile_table(layout.cu_seqlens, None, layout.positions, tokens=40)

    def make_layout() -> AttentionLayout:
        return attention_layout(boundaries_of([40]), positions=torch.arange(40))

    outside = make_layout()
    table = table_of(outside)
    made = table.tile_list(16)
    capturing(True)
    inside = make_layout()
    captured = table_of(inside)
    assert table_of(inside) is captured
    borrowed = table_of(outside)
    assert borrowed.tile_list(16) is made
    missing = borrowed.tile_list(32)
    capturing(False)
    assert table_of(inside) is not captured
    assert table_of(outside) is table
    assert table.tile_list(32) is not missing


def test_tables_are_forgotten_with_their_layout() -> None:
    layout = attention_layout(boundaries_of([5, 3]), positions=torch.arange(8))
    table = weakref.ref(tile_table(layout.cu_seqlens, None, layout.positions, tokens=8))
    assert table() is not None
    del layout
    gc.collect()
    assert table() is None


def test_copying_a_layout_passes_opcheck() -> None:
    sources = [boundaries_of([5, 3]), torch.arange(8)]
    torch.library.opcheck(attention_layout_module._copy_layout, (sources,))
