"""Attention under 200 random pseudo-masked layouts, against pairs that UniLM-v2's integers name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seqmlm_kernels import Visibility, attention
from tests.kernels.test_attention import boundaries_of, integers
from tests.kernels.triton.tile_classes import classes_of

NOT_READ = torch.iinfo(torch.int32).max


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
def layouts(use_tiles: Callable[[int, int], None]) -> list[Tensor]:
    """200 random layouts, of sixteen tokens to a tile."""
    use_tiles(16, 16)
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
