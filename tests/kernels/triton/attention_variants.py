"""Attention kernels as a launch would compile them, by architecture, head dimension and kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from tests.kernels.triton.ahead_of_time import Variant

KERNELS = {
    "forward": "attention_forward:attention_forward_kernel",
    "backward_queries": "attention_backward_queries:attention_backward_queries_kernel",
    "backward_keys": "attention_backward_keys:attention_backward_keys_kernel",
}
# Pointers before the tile list.
OPERANDS = {
    "forward": "q k v output",
    "backward_queries": "q k v output output_gradient q_gradient",
    "backward_keys": "q k v output_gradient k_gradient v_gradient",
}
STATISTICS = {
    "forward": "log_sum",
    "backward_queries": "log_sum delta",
    "backward_keys": "log_sum delta",
}
LAYOUT = "tiles outer_summary inner_summary step reach group position"


def attention_variant(
    kind: Any,
    architecture: Any,
    head_dim: int,
    *,
    rule: str = "all_pairs",
    dtype: str = "bf16",
    precision: str = "ieee",
    max_seqlen: int = 1 << 20,
) -> Variant:
    import torch

    from seqmlm_kernels.triton.launch import LaunchKey, shortened, table_launch
    from seqmlm_kernels.triton.tiles import SIZES

    padded = 1 << (head_dim - 1).bit_length()
    key = LaunchKey.of(
        kind,
        architecture=architecture,
        padded_head_dim=padded,
        dtype=torch.float32 if dtype == "fp32" else torch.bfloat16,
        is_restricted=rule != "all_pairs",
    )
    launch = shortened(table_launch(key), max_seqlen)
    strides = ["q_stride", "q_head_stride", "k_stride", "k_head_stride", "v_stride"]
    strides += ["v_head_stride"]
    if kind != "forward":
        strides += ["gradient_stride", "gradient_head_stride"]
    signature = {f"{name}_ptr": f"*{dtype}" for name in OPERANDS[kind].split()}
    signature |= {f"{name}_ptr": "*fp32" for name in STATISTICS[kind].split()}
    signature |= {f"{name}_ptr": "*i32" for name in LAYOUT.split()}
    signature |= dict.fromkeys(strides, "i32")
    signature |= dict.fromkeys(("tokens", "outer_capacity", "inner_capacity", "window"), "i32")
    signature["scale_log2" if kind == "forward" else "scale"] = "fp32"
    length = f"-at_most_{max_seqlen}" if max_seqlen <= 64 else ""
    return Variant(
        name=f"attention-{kind}-{architecture}-{head_dim}-{rule}-{dtype}-{precision}{length}",
        kernel=f"seqmlm_kernels.triton.{KERNELS[kind]}",
        target=architecture,
        signature=signature,
        constexprs={
            "KV_HEADS" if kind == "backward_keys" else "HEADS": 12,
            "HEADS_PER_KV_HEAD": 1,
            "HEAD_DIM": head_dim,
            "PADDED": padded,
            "OUTER": launch.outer,
            "INNER": launch.inner,
            "OUTER_COLUMN": 4 + SIZES.index(launch.outer),
            "INNER_COLUMN": 4 + SIZES.index(launch.inner),
            "HAS_VISIBILITY": rule in ("visibility", "both"),
            "HAS_WINDOW": rule in ("window", "both"),
            "UPCAST": False,
            "INPUT_PRECISION": precision,
        },
        num_warps=launch.num_warps,
        num_stages=launch.num_stages,
        aligned=tuple(strides),
    )


def _variants() -> Iterator[Variant]:
    for kind, head_dim, rule in itertools.product(KERNELS, (64, 128), ("all_pairs", "visibility")):
        yield attention_variant(kind, "sm_90", head_dim, rule=rule)
    for kind in KERNELS:
        yield attention_variant(kind, "sm_90", 96, rule="both")
        yield attention_variant(kind, "sm_90", 64, rule="window", dtype="fp16")
        yield attention_variant(kind, "sm_90", 64, max_seqlen=16)
        yield attention_variant(kind, "sm_80", 64)
        yield attention_variant(kind, "sm_80", 128, rule="visibility")
        yield attention_variant(kind, "sm_100", 64, rule="visibility")
        yield attention_variant(kind, "sm_100", 128)
        yield attention_variant(kind, "gfx942", 64, rule="visibility")
    yield attention_variant("forward", "sm_90", 64, dtype="fp32")


VARIANTS = tuple(_variants())
