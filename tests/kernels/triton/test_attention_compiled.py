"""Which instructions the compiled attention kernels have, without a GPU."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.kernels.triton.ahead_of_time import Compiled, Variant, dtype_of
from tests.kernels.triton.attention_variants import VARIANTS

MATRIX_INSTRUCTION = {
    "sm_80": "mma.sync",
    "sm_90": "wgmma",
    "sm_100": "tcgen05.mma",
    "gfx942": "mfma",
}
PRODUCTS = [variant for variant in VARIANTS if "INPUT_PRECISION" in variant.constexprs]

each_variant = pytest.mark.parametrize("variant", PRODUCTS, ids=lambda variant: variant.name)


@each_variant
def test_matrix_products_run_on_matrix_units(
    variant: Variant, compiled: Mapping[str, Compiled]
) -> None:
    """Exact fp32 has none, and tiles of fewer than 64 rows are too small for wgmma."""
    instructions = compiled[variant.name].instructions
    is_exact_fp32 = dtype_of(variant) == "fp32" and variant.constexprs["INPUT_PRECISION"] == "ieee"
    if variant.target == "gfx942":  # whose units multiply fp32 as well
        assert instructions["mfma"] > 0
    elif is_exact_fp32:
        assert not any(instructions[name] for name in MATRIX_INSTRUCTION.values())
    elif variant.constexprs["OUTER"] < 64:
        assert instructions["mma.sync"] > 0
    else:
        assert instructions[MATRIX_INSTRUCTION[variant.target]] > 0


@each_variant
def test_only_the_atomic_backward_has_atomics(
    variant: Variant, compiled: Mapping[str, Compiled]
) -> None:
    is_atomic = variant.constexprs.get("ADDS_TO_QUERIES", False)
    assert (compiled[variant.name].instructions["atomic"] > 0) == is_atomic


@each_variant
def test_loops_over_tiles_are_pipelined(variant: Variant, compiled: Mapping[str, Compiled]) -> None:
    """Asynchronous copies are there exactly where more than one tile is in flight."""
    if variant.target != "gfx942":
        pipelined = compiled[variant.name].instructions["cp.async"] > 0
        assert pipelined == (variant.num_stages > 1)
