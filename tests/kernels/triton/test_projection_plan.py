"""How projections are cut, and whether what is compiled for them fits the GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest
import torch

from tests.kernels.triton.ahead_of_time import Compiled, Variant
from tests.kernels.triton.projection_variants import VARIANTS

if TYPE_CHECKING:
    from seqmlm_kernels.triton.projection_plan import ProjectionPlan

MATRIX_INSTRUCTION = {
    "sm_80": "mma.sync",
    "sm_90": "wgmma",
    "sm_100": "tcgen05.mma",
    "gfx942": "mfma",
}
# KiB of shared memory that one program may have.
SHARED_KIB = {"sm_80": 163, "sm_90": 227, "sm_100": 227, "gfx942": 64}
# Bytes of stack, where registers are spilt: none, but for the two kernels of scores on sm_100.
MOST_STACK_BYTES = {"sm_80": 0, "sm_90": 0, "sm_100": 128}
# These two add to an integer counter; its value does not depend on the order.
COUNTING = ("statistics_kernel", "combine_kernel", "cross_entropy_kernel")

each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)


@pytest.mark.parametrize(
    ("vocabulary", "predictions", "keeps_scores", "regime"),
    [
        (33, 1_000_000, True, "one tile"),
        (256, 10, False, "one tile"),
        (257, 10, True, "materialised"),
        (50_368, 2664, True, "materialised"),
        (50_368, 2665, True, "recomputed"),
        (257, 10, False, "recomputed"),
    ],
)
def test_regime_follows_from_the_size_of_the_scores(
    vocabulary: int, predictions: int, keeps_scores: bool, regime: str
) -> None:
    """2664 x 50,368 scores of two bytes are the last that fit 256 MiB."""
    from seqmlm_kernels.triton.projection_plan import choose_regime

    assert choose_regime(predictions, vocabulary, 2, keeps_scores=keeps_scores) == regime


def plan(predictions: int, vocabulary: int, hidden_size: int) -> ProjectionPlan:
    from seqmlm_kernels.triton.projection_plan import plan_projection

    return plan_projection(
        predictions,
        vocabulary,
        hidden_size,
        dtype=torch.bfloat16,
        architecture="sm_90",
        multiprocessors=132,
    )


@pytest.mark.parametrize(
    ("predictions", "vocabulary", "hidden_size"),
    [(1, 1, 16), (9830, 33, 1280), (9830, 50_368, 768), (4096, 1_000_000, 512), (200_000, 257, 64)],
)
def test_score_gradient_fits_its_bytes_and_tiles_divide_slabs(
    predictions: int, vocabulary: int, hidden_size: int
) -> None:
    from seqmlm_kernels.triton.projection_plan import SLAB_BYTES

    cut = plan(predictions, vocabulary, hidden_size)
    assert cut.chunk_predictions * cut.slab_vocabulary * 2 <= SLAB_BYTES
    assert cut.slab_vocabulary % cut.scores.vocabulary == 0
    assert cut.scores.vocabulary % 32 == 0
    assert cut.scores.vocabulary % cut.hidden_gradient.vocabulary == 0
    assert cut.scores.vocabulary % cut.weight_gradient.vocabulary == 0


def test_small_vocabulary_is_one_tile_and_shares_its_predictions() -> None:
    cut = plan(9830, 33, 1280)
    assert (cut.scores.vocabulary, cut.vocabulary_splits, cut.slab_vocabulary) == (64, 1, 64)
    assert cut.prediction_splits == 14


@each_variant
def test_kernel_fits_its_architecture(variant: Variant, compiled: Mapping[str, Compiled]) -> None:
    result = compiled[variant.name]
    assert result.shared_bytes <= SHARED_KIB[variant.target] * 1024
    if result.stack_bytes is not None:
        assert result.stack_bytes <= MOST_STACK_BYTES[variant.target]


@each_variant
def test_matrix_products_run_on_matrix_units(
    variant: Variant, compiled: Mapping[str, Compiled]
) -> None:
    """Tiles of fewer than 64 rows, as for the best ids, are too small for wgmma."""
    instructions = compiled[variant.name].instructions
    if "best_of_part" in variant.kernel:
        assert instructions["mma.sync"] > 0
    elif "PRECISION" in variant.constexprs:
        assert instructions[MATRIX_INSTRUCTION[variant.target]] > 0


@each_variant
def test_only_counters_are_atomic(variant: Variant, compiled: Mapping[str, Compiled]) -> None:
    counts = variant.kernel.partition(":")[2] in COUNTING and not variant.constexprs.get("IS_SPLIT")
    assert (compiled[variant.name].instructions["atomic"] > 0) == counts
