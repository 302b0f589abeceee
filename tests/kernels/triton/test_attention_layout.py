"""Layers share the tables of one `attention_layout`, and of nothing else."""

from __future__ import annotations

import gc
import importlib
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor

from seqmlm.data.packing import pack
from seqmlm.domain import Domain
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Row
from seqmlm_kernels import AttentionLayout, Visibility, attention, attention_layout
from seqmlm_kernels.triton import tiles
from seqmlm_kernels.triton.tiles import TileTable, tile_table
from tests.kernels.test_attention import boundaries_of

# The package has a function of this name.
attention_layout_module = importlib.import_module("seqmlm_kernels.attention_layout")


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


@pytest.mark.parametrize("field", ["cu_seqlens", "positions", "step"])
def test_layout_that_was_written_is_not_shared_any_more(
    field: str, made_tables: list[TileTable]
) -> None:
    cu_seqlens = boundaries_of([5, 3])
    layout = attention_layout(
        cu_seqlens, visibility=Visibility.causal(cu_seqlens), positions=torch.arange(8)
    )
    assert layout.visibility is not None
    x = torch.randn(8, 1, 4, generator=torch.Generator().manual_seed(0))

    def attend(backend: str) -> Tensor:
        return attention(
            x, x, x, cu_seqlens=layout.cu_seqlens, max_seqlen=7, visibility=layout.visibility,
            positions=layout.positions, window=1, backend=backend,
        )  # fmt: skip

    attend("triton")
    if field == "cu_seqlens":
        layout.cu_seqlens.copy_(boundaries_of([1, 7]))
    elif field == "positions":
        layout.positions.mul_(2)
    else:
        layout.visibility.step.zero_()
    torch.testing.assert_close(attend("triton"), attend("reference"))
    assert len(made_tables) == 2
