"""What a compiled kernel may need, so that its programs run, and several on a multiprocessor."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from tests.kernels.triton.ahead_of_time import TARGETS, Compiled, Variant, dtype_of

# KiB that one program may have.
SHARED_KIB = {"sm_80": 163, "sm_90": 227, "sm_100": 227, "gfx942": 64}
# Registers of one multiprocessor, and the most of one thread.
REGISTERS = {"sm_80": 1 << 16, "sm_90": 1 << 16, "sm_100": 1 << 16, "gfx942": 1 << 17}
# Of a thread, where there are no matrix products: several programs share a multiprocessor.
MOST_REGISTERS_OF_ROWS = 192
# Bytes of stack, in which registers are spilt, that were accepted when the tiles were chosen.
# Those of sequences of at most 64 tokens need most: on sm_90 the atomic backward of heads of 64 in
# 16 bits, with a visibility and a window.
MOST_STACK_BYTES = {"sm_80": 88, "sm_90": 96, "sm_100": 144, "gfx942": 0}
# NVIDIA has no matrix units for exact fp32: threads hold rows of 256 numbers of both operands.
MOST_STACK_BYTES_OF_WIDE_FP32 = 576
# The tiles were chosen under 3.7; under 3.6 they run, and the widest heads spill a little.
MOST_STACK_BYTES_OF_OTHER_TRITONS = 256


def exceeded(variant: Variant, compiled: Compiled) -> list[str]:
    """Which bounds a variant exceeds, by how much."""
    threads = variant.num_warps * TARGETS[variant.target][2]
    return [
        f"{what}: {needed:,}, at most {most:,}"
        for what, needed, most in (
            ("bytes of shared memory", compiled.shared_bytes, SHARED_KIB[variant.target] * 1024),
            ("registers of a program", compiled.registers * threads, REGISTERS[variant.target]),
            ("bytes of stack", compiled.stack_bytes, _most_stack_bytes(variant)),
            *_of_rows(variant, compiled),
        )
        if needed > most
    ]


def _of_rows(variant: Variant, compiled: Compiled) -> Iterator[tuple[str, int, int]]:
    if {"PRECISION", "INPUT_PRECISION"}.isdisjoint(variant.constexprs):
        yield "registers without matrix products", compiled.registers, MOST_REGISTERS_OF_ROWS


def _most_stack_bytes(variant: Variant) -> int:
    is_exact_fp32 = (
        dtype_of(variant) == "fp32" and variant.constexprs.get("INPUT_PRECISION") == "ieee"
    )
    if is_exact_fp32 and variant.target != "gfx942" and variant.constexprs["PADDED"] == 256:
        return MOST_STACK_BYTES_OF_WIDE_FP32
    if not version("triton").startswith("3.7."):
        return MOST_STACK_BYTES_OF_OTHER_TRITONS
    return MOST_STACK_BYTES[variant.target]
