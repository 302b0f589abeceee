"""What every compiled kernel needs, without a GPU: registers, stack and shared memory.

A part of what launches can compile is compiled here: on sm_90 every row of the tables of launches,
every value of every flag and every dtype of each kernel, each at least once; on sm_80, sm_100 and
gfx942 every kernel, every dtype and every head dimension at least once. The tables and flags are
multiplied in ``*_variants.py``, so that a new row is compiled as soon as it is there. With
``make compile-all`` the whole product is compiled for all four.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version

import pytest

from tests.kernels.triton.ahead_of_time import (
    Compiled,
    Variant,
    all_variants,
    covering,
    dtype_of,
    facts_of,
)

# KiB that one program may have.
SHARED_KIB = {"sm_80": 163, "sm_90": 227, "sm_100": 227, "gfx942": 64}
# Registers of one multiprocessor, and the most of one thread.
REGISTERS = {"sm_80": 1 << 16, "sm_90": 1 << 16, "sm_100": 1 << 16, "gfx942": 1 << 17}
THREADS_PER_WARP = {"sm_80": 32, "sm_90": 32, "sm_100": 32, "gfx942": 64}
# Of a thread, where there are no matrix products: several programs share a multiprocessor.
MOST_REGISTERS_OF_ROWS = 192
# Bytes of stack, in which registers are spilt, that were accepted when the tiles were chosen.
# On sm_80 those of sequences of at most 64 tokens, on sm_90 the forward of heads of 256 need most.
MOST_STACK_BYTES = {"sm_80": 88, "sm_90": 80, "sm_100": 144, "gfx942": 0}
# NVIDIA has no matrix units for exact fp32: threads hold rows of 256 numbers of both operands.
MOST_STACK_BYTES_OF_WIDE_FP32 = 576
# The tiles were chosen under 3.7; under 3.6 they run, and the widest heads spill a little.
MOST_STACK_BYTES_OF_OTHER_TRITONS = 256

each_variant = pytest.mark.parametrize("variant", all_variants(), ids=lambda variant: variant.name)


def has_products(variant: Variant) -> bool:
    return not {"PRECISION", "INPUT_PRECISION"}.isdisjoint(variant.constexprs)


def most_stack_bytes(variant: Variant) -> int:
    is_exact_fp32 = (
        dtype_of(variant) == "fp32" and variant.constexprs.get("INPUT_PRECISION") == "ieee"
    )
    is_nvidia = variant.target != "gfx942"
    if is_exact_fp32 and is_nvidia and variant.constexprs["PADDED"] == 256:
        return MOST_STACK_BYTES_OF_WIDE_FP32
    if not version("triton").startswith("3.7."):
        return MOST_STACK_BYTES_OF_OTHER_TRITONS
    return MOST_STACK_BYTES[variant.target]


@each_variant
def test_program_fits_a_multiprocessor(variant: Variant, compiled: Mapping[str, Compiled]) -> None:
    result = compiled[variant.name]
    assert result.shared_bytes <= SHARED_KIB[variant.target] * 1024
    threads = variant.num_warps * THREADS_PER_WARP[variant.target]
    assert result.registers * threads <= REGISTERS[variant.target]


@each_variant
def test_kernels_without_products_leave_registers_for_other_programs(
    variant: Variant, compiled: Mapping[str, Compiled]
) -> None:
    if not has_products(variant):
        assert compiled[variant.name].registers <= MOST_REGISTERS_OF_ROWS


@each_variant
def test_registers_are_not_spilt(variant: Variant, compiled: Mapping[str, Compiled]) -> None:
    assert compiled[variant.name].stack_bytes <= most_stack_bytes(variant)


def test_what_is_compiled_has_every_fact_of_the_product() -> None:
    from tests.kernels.triton import attention_variants, projection_variants

    for module in (attention_variants, projection_variants):
        every = list(module.every_variant())
        facts = set().union(*map(facts_of, every))
        assert set().union(*map(facts_of, module.VARIANTS)) == facts
        assert len(module.VARIANTS) < len(every)


def test_new_row_of_a_table_is_compiled() -> None:
    variants = [variant for variant in all_variants() if variant.target == "sm_90"]
    row = next(variant for variant in variants if variant.constexprs.get("OUTER") == 128)
    new = replace(row, name="new", num_stages=7)
    assert new in covering([*variants, new])
