"""The rotary kernel as a launch would compile it."""

from __future__ import annotations

from tests.kernels.triton.ahead_of_time import TARGETS, Variant

STRIDES = ("stride", "head_stride")

VARIANTS = tuple(
    Variant(
        name=f"rotary-{target}-{head_dim}-{dtype}",
        kernel="seqmlm_kernels.triton.rotary:rotate_kernel",
        target=target,
        signature={
            "x_ptr": f"*{dtype}",
            "table_ptr": "*fp32",
            "rotated_ptr": f"*{dtype}",
            **dict.fromkeys((*STRIDES, "tokens", "direction"), "i32"),
        },
        constexprs={
            "HEADS": 12,
            "HALF": head_dim // 2,
            "PADDED_HALF": 1 << (head_dim // 2 - 1).bit_length(),
            "ROWS": 16,
        },
        num_warps=4,
        num_stages=3,
        aligned=STRIDES,
    )
    for target in TARGETS
    for head_dim, dtype in ((64, "bf16"), (96, "fp32"))
)
