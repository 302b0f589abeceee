"""How projections are cut, and whether what is compiled for them fits the GPUs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from tests.kernels.triton.ahead_of_time import Compiled, Variant, dtype_of
from tests.kernels.triton.projection_variants import VARIANTS

if TYPE_CHECKING:
    from seqmlm_kernels.triton.projection_plan import ProjectionPlan

MATRIX_INSTRUCTION = {
    "sm_80": "mma.sync",
    "sm_90": "wgmma",
    "sm_100": "tcgen05.mma",
    "gfx942": "mfma",
}
# These add to an integer counter; its value does not depend on the order.
COUNTING = ("statistics_kernel", "combine_kernel")

each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)


@pytest.mark.parametrize(
    ("vocabulary", "predictions", "kept"),
    [
        (33, 1_000_000, True),
        (33, 1 << 20, True),
        (33, (1 << 20) + 1, False),
        (50_368, 1332, True),
        (50_368, 1333, False),
        (50_369, 1332, False),
    ],
)
def test_scores_are_kept_up_to_a_bound_on_memory(
    vocabulary: int, predictions: int, kept: bool
) -> None:
    """Rows of 4 bytes for each of whole words of ids: 1332 rows of 50,368 still fit 256 MiB."""
    from seqmlm_kernels.triton.projection_plan import scores_are_kept

    assert scores_are_kept(predictions, vocabulary) == kept


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
    assert cut.prediction_splits == 13


def test_backward_of_64_ids_is_one_pass() -> None:
    """Ten tiles of hidden units in thirteen shares of 154 tiles of predictions, twelve each."""
    found = plan(9830, 33, 1280).one_pass
    assert found is not None
    assert (found.tiles.vocabulary, found.splits) == (64, 13)
    small = plan(9830, 20, 1280).one_pass
    assert small is not None
    assert small.tiles.vocabulary == 32
    assert plan(9830, 64, 1280).one_pass is not None
    assert plan(9830, 65, 1280).one_pass is None


def test_launches_of_many_predictions_are_whole_waves() -> None:
    """77 tiles of predictions, 3 programs of weight gradient for each tile of the vocabulary.

    12 parts of the vocabulary are 924 programs or 7 waves of 132 (11 would be 847 in as many);
    a slab of 44 tiles is 132 programs of weight gradient (the 53 that fit would be 159, so two).
    """
    cut = plan(9830, 50_368, 768)
    assert cut.scores.resident == cut.weight_gradient.resident == 1
    assert cut.vocabulary_splits == 12
    assert cut.slab_vocabulary == 44 * 128
    assert (cut.hidden_splits, cut.prediction_splits) == (1, 1)


def test_hidden_gradient_is_not_split_where_its_sums_take_longer_than_a_wave_is_idle() -> None:
    """462 programs in each slab of 44 tiles are 3.5 waves; in two parts they would be 7."""
    from seqmlm_kernels.triton.projection_plan import FLOP_PER_BYTE

    cut = plan(9830, 50_368, 768)
    programs = -(-9830 // 128) * -(-768 // 128)
    assert (programs, cut.hidden_splits) == (462, 1)
    saved = (4 * 44 - 7 * 22) * 132 * 2 * 128**3
    assert saved < 2 * 8 * 9830 * 768 * FLOP_PER_BYTE


def test_few_predictions_share_their_hidden_gradient_between_programs() -> None:
    """96 tiles of hidden gradient in one slab of 255 tiles of the vocabulary."""
    cut = plan(2048, 50_368, 768)
    programs = 132 * cut.hidden_gradient.resident
    assert cut.slab_vocabulary == 220 * 128
    assert cut.hidden_splits > 1
    busy = 96 * cut.hidden_splits
    assert busy / (-(-busy // programs) * programs) > 0.9
    # Their partial sums take no more memory than the plan allows.
    assert cut.hidden_splits * 2048 * 768 * 4 <= 64 << 20


def test_one_prediction_is_shared_by_every_multiprocessor() -> None:
    assert plan(1, 50_368, 768).vocabulary_splits == 132


@pytest.mark.parametrize("tiles", [1, 44, 53, 54, 394, 7813])
@pytest.mark.parametrize("programs_per_tile", [1, 3, 4])
def test_no_slab_takes_fewer_waves(tiles: int, programs_per_tile: int) -> None:
    from seqmlm_kernels.triton.waves import whole_wave_slab

    def waves(width: int) -> int:
        widths = [min(width, tiles - start) for start in range(0, tiles, width)]
        return sum(-(-programs_per_tile * x // 132) for x in widths)

    chosen = whole_wave_slab(tiles, 53, programs_per_tile, 132)
    assert chosen <= 53
    assert waves(chosen) == min(waves(width) for width in range(1, min(tiles, 53) + 1))


def test_slabs_are_wide_where_a_launch_takes_longer_than_what_waves_save() -> None:
    """Of a million ids 128 tiles fit a slab: 62 slabs of two waves, not 119 of one each."""
    cut = plan(4096, 1_000_000, 512)
    assert cut.slab_vocabulary == 128 * 128


def test_plans_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as the bounds stay what they are."""
    from seqmlm_kernels.triton import projection_plan

    first = plan(9830, 50_368, 768)
    assert plan(9830, 50_368, 768) is first
    monkeypatch.setattr(projection_plan, "SLAB_BYTES", projection_plan.SLAB_BYTES // 2)
    assert plan(9830, 50_368, 768).slab_vocabulary < first.slab_vocabulary


@pytest.mark.parametrize("predictions", [1000, 2048, 4915, 9830, 11_900])
@pytest.mark.parametrize("vocabulary", [5001, 50_368, 1_000_000])
def test_forward_and_weight_gradient_come_in_nearly_whole_waves(
    predictions: int, vocabulary: int
) -> None:
    cut = plan(predictions, vocabulary, 768)
    forward = -(-predictions // cut.scores.predictions) * cut.vocabulary_splits
    weight = cut.slab_vocabulary // cut.weight_gradient.vocabulary * 3 * cut.prediction_splits
    for programs in (forward, weight):
        assert programs / (-(-programs // 132) * 132) > 0.88


def test_tiles_that_are_given_take_the_place_of_the_tables() -> None:
    from seqmlm_kernels.triton.projection_plan import plan_projection
    from seqmlm_kernels.triton.projection_tiles import Tiles, tiles_of

    table = tiles_of("sm_90", torch.bfloat16)
    tall = Tiles(256, 128, 64, 8, 3)
    made = functools.partial(
        plan_projection, 9830, dtype=torch.bfloat16, architecture="sm_90", multiprocessors=132
    )
    cut = made(50_368, 768, tiles=replace(table, score_gradient=tall))
    assert (cut.scores, cut.score_gradient) == (table.scores, tall)
    # 39 tiles of 256 predictions instead of 77 of 128.
    assert cut.chunk_predictions == 39 * 256
    assert made(50_368, 768, tiles=table) == made(50_368, 768)
    small = made(200, 768, tiles=replace(table, score_gradient=tall))
    assert (small.score_gradient.predictions, small.score_gradient.vocabulary) == (64, 256)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("score_gradient", {"vocabulary": 256}, "of score_gradient is 256; it must be that of sco"),
        ("weight_gradient", {"vocabulary": 256}, "of weight_gradient is 256; it must divide that"),
        ("hidden_gradient", {"predictions": 96}, r"hidden_gradient is Tiles\(.* powers of two"),
        ("one_pass", {"hidden": 0}, r"one_pass is Tiles\(.* powers of two"),
    ],
)
def test_tiles_that_cannot_be_combined_are_refused(
    part: str, changes: dict[str, int], message: str
) -> None:
    from seqmlm_kernels.triton.projection_tiles import tiles_of

    table = tiles_of("sm_90", torch.bfloat16)
    with pytest.raises(ValueError, match=message):
        replace(table, **{part: replace(getattr(table, part), **changes)})


@pytest.mark.parametrize(("tiles", "steps"), [(1, 394), (16, 394), (77, 394), (131, 7), (500, 3)])
def test_no_split_ends_earlier(tiles: int, steps: int) -> None:
    """Of the splits that fill up to eight waves."""
    from seqmlm_kernels.triton.waves import whole_wave_splits

    def steps_of_busiest(splits: int) -> int:
        return -(-tiles * splits // 132) * -(-steps // splits)

    chosen = whole_wave_splits(tiles, steps, programs=132)
    possible = range(1, min(steps, 256, max(1, 8 * 132 // tiles)) + 1)
    assert steps_of_busiest(chosen) == min(map(steps_of_busiest, possible))


# Registers, and bytes of shared memory, of a multiprocessor; a program takes 1 KiB more.
REGISTERS = 65_536
SHARED_BYTES = {"sm_80": 164 << 10, "sm_90": 228 << 10, "sm_100": 228 << 10}


PLANNED = [
    variant
    for variant in VARIANTS
    if variant.target in SHARED_BYTES
    and variant.name.split("-")[0] in ("statistics", "hidden_gradient", "weight_gradient")
    and variant.name.endswith(f"-50368-bf16-{variant.target}")
]


@pytest.mark.parametrize("variant", PLANNED, ids=lambda variant: variant.name)
def test_programs_that_run_at_a_time_are_those_of_the_plan(
    variant: Variant, compiled: Mapping[str, Compiled]
) -> None:
    from seqmlm_kernels.triton.projection_plan import plan_projection

    cut = plan_projection(
        9830, 50_368, 768, dtype=torch.bfloat16, architecture=variant.target, multiprocessors=132
    )
    kernel = variant.name.split("-")[0]
    tiles = cut.scores if kernel == "statistics" else getattr(cut, kernel)
    found = compiled[variant.name]
    assert found.registers is not None
    registers = -(-found.registers // 8) * 8 * 32 * variant.num_warps
    by_memory = SHARED_BYTES[variant.target] // (found.shared_bytes + 1024)
    assert tiles.resident == min(REGISTERS // registers, by_memory)


def is_exact_fp32(variant: Variant) -> bool:
    """Which NVIDIA's matrix units do not have."""
    precision = variant.constexprs.get("PRECISION")
    return dtype_of(variant) == "fp32" and precision == "ieee" and variant.target != "gfx942"


@each_variant
def test_matrix_products_run_on_matrix_units(
    variant: Variant, compiled: Mapping[str, Compiled]
) -> None:
    """Tiles of fewer than 64 rows, as for the best ids, are too small for wgmma.

    Scores that were kept are read, not computed again.
    """
    instructions = compiled[variant.name].instructions
    if "best_of_part" in variant.kernel and variant.target != "gfx942":
        assert instructions["mma.sync"] > 0
    elif is_exact_fp32(variant):
        assert instructions["mma.sync"] == instructions["wgmma"] == 0
    elif "PRECISION" in variant.constexprs and not variant.constexprs.get("HAS_SCORES"):
        assert instructions[MATRIX_INSTRUCTION[variant.target]] > 0


@each_variant
def test_only_counters_are_atomic(variant: Variant, compiled: Mapping[str, Compiled]) -> None:
    counts = variant.kernel.partition(":")[2] in COUNTING and not variant.constexprs.get("IS_SPLIT")
    assert (compiled[variant.name].instructions["atomic"] > 0) == counts
