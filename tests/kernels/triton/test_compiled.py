"""What compiled kernels need, without a GPU: registers, stack and shared memory.

A part of what launches can compile is compiled here, which `covering` chooses; the tables and
flags are multiplied in ``*_variants.py``, so that a new row is compiled as soon as it is there.
With ``make compile-all`` the whole product is compiled for all four architectures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from tests.kernels.triton.ahead_of_time import (
    Compiled,
    Variant,
    all_variants,
    dtype_of,
    every_variant,
)
from tests.kernels.triton.attention_variants import NUM_COMPILED
from tests.kernels.triton.attention_variants import VARIANTS as OF_ATTENTION
from tests.kernels.triton.bounds import exceeded
from tests.kernels.triton.covering import covering, facts_of

each_variant = pytest.mark.parametrize("variant", all_variants(), ids=lambda variant: variant.name)


@each_variant
def test_variant_is_within_its_bounds(variant: Variant, compiled: Mapping[str, Compiled]) -> None:
    assert not exceeded(variant, compiled[variant.name])


def test_what_is_compiled_has_every_needed_fact_of_the_product() -> None:
    every = every_variant()
    needed = set().union(*(facts_of(variant)[0] for variant in every))
    compiled = set().union(*(facts_of(variant)[0] for variant in all_variants()))
    assert compiled == needed
    assert len(OF_ATTENTION) == NUM_COMPILED < len(every) / 10


def test_new_row_of_a_table_is_compiled() -> None:
    variants = [variant for variant in OF_ATTENTION if variant.target == "sm_90"]
    row = next(variant for variant in variants if variant.constexprs.get("OUTER") == 128)
    new = replace(row, name="new", num_stages=7)
    assert new in covering([*variants, new])


def test_attention_without_a_rule_is_compiled_for_what_spilt_there_once() -> None:
    """For each kernel, padded head dimension and dtype, on every architecture."""

    def combinations(variants: Iterable[Variant]) -> set[tuple[object, ...]]:
        return {
            (variant.target, what)
            for variant in variants
            for constexprs in (variant.constexprs,)
            if not constexprs["HAS_VISIBILITY"] and not constexprs["HAS_WINDOW"]
            for what in (variant.kernel, max(constexprs["PADDED"], 64), dtype_of(variant))
        }

    every = [one for one in every_variant() if "INPUT_PRECISION" in one.constexprs]
    compiled = [one for one in OF_ATTENTION if "INPUT_PRECISION" in one.constexprs]
    assert combinations(compiled) == combinations(every)
    assert len(combinations(every)) == 4 * (3 + 3 + 3)


def made(variant: Variant, registers: int, stack_bytes: int, shared_bytes: int) -> list[str]:
    return exceeded(variant, Compiled(shared_bytes, registers, stack_bytes))


def test_bounds_are_those_of_a_multiprocessor_and_of_stack() -> None:
    variant = Variant("x", "k", "sm_90", {"q_ptr": "*bf16"}, {"PRECISION": "ieee"}, 8, 2)
    assert made(variant, 255, 80, 227 << 10) == []
    assert made(replace(variant, num_warps=16), 255, 0, 0) == [
        "registers of a program: 130,560, at most 65,536"
    ]
    assert made(variant, 1, 0, (227 << 10) + 1) == [
        "bytes of shared memory: 232,449, at most 232,448"
    ]
    assert made(variant, 1, 300, 0)[0].startswith("bytes of stack: 300, at most ")
    without_products = replace(variant, constexprs={})
    assert made(without_products, 193, 0, 0) == [
        "registers without matrix products: 193, at most 192"
    ]
