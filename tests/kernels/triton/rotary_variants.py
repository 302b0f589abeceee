"""The rotary kernel as a launch would compile it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tests.kernels.triton.ahead_of_time import TARGETS, Variant

STRIDES = ("q_stride", "q_head_stride", "k_stride", "k_head_stride")


def every_variant() -> Iterator[Variant]:
    """Two head dimensions, in two dtypes, on each architecture."""
    for target, (head_dim, kv_heads, dtype) in itertools.product(
        TARGETS, ((64, 12, "bf16"), (96, 4, "fp32"))
    ):
        yield Variant(
            name=f"rotary-{target}-{head_dim}-{dtype}",
            kernel="seqmlm_kernels.triton.rotary:rotate_kernel",
            target=target,
            signature={
                **{f"{name}_ptr": f"*{dtype}" for name in ("q", "k", "rotated_q", "rotated_k")},
                "table_ptr": "*fp32",
                **dict.fromkeys((*STRIDES, "tokens", "direction"), "i32"),
            },
            constexprs={
                "HEADS": 12,
                "KV_HEADS": kv_heads,
                "HALF": head_dim // 2,
                "PADDED_HALF": 1 << (head_dim // 2 - 1).bit_length(),
                "ROWS": 1024 >> (head_dim // 2 - 1).bit_length(),
            },
            num_warps=4,
            num_stages=3,
            aligned=STRIDES,
        )


VARIANTS = tuple(every_variant())
