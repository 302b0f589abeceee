"""Attention kernels as a launch would compile them, by architecture, head dimension and kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.kernels.triton.ahead_of_time import TARGETS, Variant
from tests.kernels.triton.covering import covering

# A row of the tables is for a padded head dimension; 32 and 96 are the ones with padding.
HEAD_DIMS = (64, 128, 256, 32, 96)
# The first one needs the most registers.
RULES = ("both", "all_pairs", "visibility", "window")
DTYPES = (("bf16", "ieee"), ("fp16", "ieee"), ("fp32", "ieee"), ("fp32", "tf32"))
LONG = 1 << 20
# Of all, in the tests.
NUM_COMPILED = 110

KERNELS = {
    "forward": "attention_forward:attention_forward_kernel",
    "backward_queries": "attention_backward_queries:attention_backward_queries_kernel",
    "backward_keys": "attention_backward_keys:attention_backward_keys_kernel",
    "backward_atomic": "attention_backward_keys:attention_backward_keys_kernel",
}
# Pointers before the tile list.
OPERANDS = {
    "forward": "q k v output",
    "backward_queries": "q k v output output_gradient q_gradient",
    "backward_keys": "q k v output_gradient k_gradient v_gradient",
    "backward_atomic": "q k v output_gradient k_gradient v_gradient",
}
STATISTICS = {
    "forward": "log_sum",
    "backward_queries": "log_sum delta",
    "backward_keys": "log_sum delta q_gradient",
    "backward_atomic": "log_sum delta q_gradient",
}
# Kinds whose programs own keys.
OF_KEYS = ("backward_keys", "backward_atomic")
LAYOUT = "tiles visits step reach group position"


def attention_variant(
    kind: Any,
    architecture: Any,
    head_dim: int,
    *,
    rule: str = "all_pairs",
    dtype: str = "bf16",
    precision: Any = "ieee",
    max_seqlen: int = LONG,
    heads_per_kv_head: int = 1,
) -> Variant:
    """What is launched for sequences of at most ``max_seqlen`` tokens."""
    import torch

    from seqmlm_kernels.triton.launch import LaunchKey, shortened, table_launch

    padded = 1 << (head_dim - 1).bit_length()
    key = LaunchKey.of(
        kind,
        architecture=architecture,
        padded_head_dim=padded,
        dtype=torch.float32 if dtype == "fp32" else torch.bfloat16,
        is_restricted=rule != "all_pairs",
    )
    key = replace(key, input_precision=precision)
    launch = shortened(key, table_launch(key), max_seqlen)
    strides = ["q_stride", "q_head_stride", "k_stride", "k_head_stride", "v_stride"]
    strides += ["v_head_stride"]
    if kind != "forward":
        strides += ["gradient_stride", "gradient_head_stride"]
    signature = {f"{name}_ptr": f"*{dtype}" for name in OPERANDS[kind].split()}
    signature |= {f"{name}_ptr": "*fp32" for name in STATISTICS[kind].split()}
    signature |= {f"{name}_ptr": "*i32" for name in LAYOUT.split()}
    signature |= dict.fromkeys(strides, "i32")
    signature |= dict.fromkeys(("tokens", "visits_stride", "window"), "i32")
    signature["scale_log2" if kind == "forward" else "scale"] = "fp32"
    length = f"-at_most_{max_seqlen}" if max_seqlen != LONG else ""
    length += "-grouped" if heads_per_kv_head > 1 else ""
    return Variant(
        name=f"attention-{kind}-{architecture}-{head_dim}-{rule}-{dtype}-{precision}{length}",
        kernel=f"seqmlm_kernels.triton.{KERNELS[kind]}",
        target=architecture,
        signature=signature,
        constexprs={
            **({"ADDS_TO_QUERIES": kind == "backward_atomic"} if kind in OF_KEYS else {}),
            "KV_HEADS" if kind in OF_KEYS else "HEADS": 12,
            "HEADS_PER_KV_HEAD": heads_per_kv_head,
            "HEAD_DIM": head_dim,
            "PADDED": padded,
            "OUTER": launch.outer,
            "INNER": launch.inner,
            "HAS_VISIBILITY": rule in ("visibility", "both"),
            "HAS_WINDOW": rule in ("window", "both"),
            "UPCAST": False,
            "INPUT_PRECISION": precision,
        },
        num_warps=launch.num_warps,
        num_stages=launch.num_stages,
        aligned=tuple(strides),
    )


def delta_variant(architecture: str, head_dim: int, dtype: str) -> Variant:
    """What the atomic backward launches first."""
    from seqmlm_kernels.triton.attention_launches import DELTA_ROWS

    strides = ("gradient_stride", "gradient_head_stride")
    pointers = {f"{name}_ptr": f"*{dtype}" for name in ("output", "output_gradient")}
    return Variant(
        name=f"attention-delta-{architecture}-{head_dim}-{dtype}",
        kernel="seqmlm_kernels.triton.attention_delta:attention_delta_kernel",
        target=architecture,
        signature=pointers | {"delta_ptr": "*fp32"} | dict.fromkeys((*strides, "tokens"), "i32"),
        constexprs={
            "HEADS": 12,
            "HEAD_DIM": head_dim,
            "PADDED": 1 << (head_dim - 1).bit_length(),
            "ROWS": DELTA_ROWS,
            "UPCAST": False,
        },
        num_warps=4,
        num_stages=1,
        aligned=strides,
    )


def summary_variant(architecture: str, size: int, rule: str) -> Variant:
    """What summarises tiles for a rule."""
    from seqmlm_kernels.triton.tile_kernels import SIZES

    pointers = ("tiles", "step", "reach", "group", "position", "summary")
    return Variant(
        name=f"tiles-summary-{architecture}-{size}-{rule}",
        kernel="seqmlm_kernels.triton.tile_kernels:summarise_tiles_kernel",
        target=architecture,
        signature={f"{name}_ptr": "*i32" for name in pointers} | {"capacity": "i32"},
        constexprs={
            "SIZE": size,
            "COLUMN": 4 + SIZES.index(size),
            "HAS_VISIBILITY": rule in ("visibility", "both"),
            "HAS_WINDOW": rule in ("window", "both"),
        },
        num_warps=1,
        num_stages=3,
    )


def visits_variant(architecture: str, rule: str, *, outer_is_queries: bool) -> Variant:
    """What finds the tiles that each tile meets, of any sizes."""
    pointers = ("tiles", "outer_summary", "inner_summary", "visits")
    sizes = (
        *("outer_capacity", "inner_capacity", "window", "most_visits"),
        *("outer", "inner", "outer_column", "inner_column"),
    )
    return Variant(
        name=f"tiles-visits-{architecture}-{rule}-{'queries' if outer_is_queries else 'keys'}",
        kernel="seqmlm_kernels.triton.tile_kernels:find_visits_kernel",
        target=architecture,
        signature={f"{name}_ptr": "*i32" for name in pointers} | dict.fromkeys(sizes, "i32"),
        constexprs={
            "OUTER_IS_QUERIES": outer_is_queries,
            "HAS_VISIBILITY": rule in ("visibility", "both"),
            "HAS_WINDOW": rule in ("window", "both"),
        },
        num_warps=1,
        num_stages=3,
    )


def every_variant() -> Iterator[Variant]:
    """All that a launch can compile, but for the numbers of heads.

    Each kind of kernel for each head dimension and rule, in each dtype and precision, for short
    and long sequences, on each architecture.
    """
    from seqmlm_kernels.triton.tile_kernels import SIZES

    for max_seqlen, architecture, kind, head_dim, rule, (dtype, precision) in itertools.product(
        (LONG, 16, 32, 64), TARGETS, KERNELS, HEAD_DIMS, RULES, DTYPES
    ):
        if max_seqlen == LONG or dtype != "fp32":
            yield attention_variant(
                kind, architecture, head_dim, rule=rule, dtype=dtype, precision=precision,
                max_seqlen=max_seqlen,
            )  # fmt: skip
    for architecture, kind in itertools.product(TARGETS, KERNELS):
        yield attention_variant(kind, architecture, 64, rule="both", heads_per_kv_head=3)
    for architecture, head_dim in itertools.product(TARGETS, HEAD_DIMS):
        for dtype in ("bf16", "fp32"):
            yield delta_variant(architecture, head_dim, dtype)
    restricted = ("both", "visibility", "window")
    for architecture, size, rule in itertools.product(TARGETS, SIZES, restricted):
        yield summary_variant(architecture, size, rule)
    for architecture, rule, is_queries in itertools.product(TARGETS, restricted, (True, False)):
        yield visits_variant(architecture, rule, outer_is_queries=is_queries)


VARIANTS = covering(every_variant(), at_least=NUM_COMPILED)
