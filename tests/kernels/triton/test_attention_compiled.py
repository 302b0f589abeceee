"""What the compiled attention kernels need, without a GPU: registers, stack, shared memory."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.kernels.triton.ahead_of_time import Compiled, Variant
from tests.kernels.triton.attention_variants import VARIANTS

MATRIX_INSTRUCTION = {
    "sm_80": "mma.sync",
    "sm_90": "wgmma",
    "sm_100": "tcgen05.mma",
    "gfx942": "mfma",
}
# KiB that one program may have.
SHARED_KIB = {"sm_80": 163, "sm_90": 227, "sm_100": 227, "gfx942": 64}
# Bytes of stack, in which registers are spilt, that were accepted when the tiles were chosen.
MOST_STACK_BYTES = {"sm_80": 0, "sm_90": 32, "sm_100": 128}
MOST_STACK_BYTES_FP32 = 256

each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)


@each_variant
def test_kernel_fits_its_architecture(variant: Variant, compiled: Mapping[str, Compiled]) -> None:
    result = compiled[variant.name]
    assert result.shared_bytes <= SHARED_KIB[variant.target] * 1024
    if result.stack_bytes is not None:
        is_fp32 = variant.signature["q_ptr"] == "*fp32"
        most = MOST_STACK_BYTES_FP32 if is_fp32 else MOST_STACK_BYTES[variant.target]
        assert result.stack_bytes <= most


@each_variant
def test_matrix_products_run_on_matrix_units(
    variant: Variant, compiled: Mapping[str, Compiled]
) -> None:
    """Exact fp32 has none, and tiles of fewer than 64 rows are too small for wgmma."""
    instructions = compiled[variant.name].instructions
    if "fp32-ieee" in variant.name:
        assert not any(instructions[name] for name in MATRIX_INSTRUCTION.values())
    elif variant.constexprs["OUTER"] < 64:
        assert instructions["mma.sync"] > 0
    else:
        assert instructions[MATRIX_INSTRUCTION[variant.target]] > 0


@each_variant
def test_there_are_no_atomics(variant: Variant, compiled: Mapping[str, Compiled]) -> None:
    assert compiled[variant.name].instructions["atomic"] == 0


@each_variant
def test_loops_over_tiles_are_pipelined(variant: Variant, compiled: Mapping[str, Compiled]) -> None:
    """Asynchronous copies are there exactly where more than one tile is in flight."""
    if variant.target != "gfx942":
        pipelined = compiled[variant.name].instructions["cp.async"] > 0
        assert pipelined == (variant.num_stages > 1)
