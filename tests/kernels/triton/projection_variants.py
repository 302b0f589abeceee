"""Kernels over the vocabulary as a launch would compile them, by architecture and dtype."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tests.kernels.triton.ahead_of_time import Variant
from tests.kernels.triton.covering import covering

MODULE = "seqmlm_kernels.triton"
SIZES = {
    "num_predictions",
    "vocabulary_size",
    "hidden_size",
    "num_tokens",
    "num_sets",
    "num_words",
    "num_splits",
    "slab_tile",
    "slab_size",
    "num_slab_tiles",
    "steps_per_split",
    "num_ids",
    "k",
    "num_rows",
    "score_stride",
    "split_stride",
    "num_numbers",
    "num_parts",
}
ALIGNED = ("hidden_size", "slab_size", "score_stride", "split_stride")
# Types of the pointers whose type is not that of the model: of indices, those that training passes.
POINTERS = {
    "rows_ptr": "*i64",
    "words_ptr": "*i32",
    "set_index_ptr": "*i32",
    "targets_ptr": "*i64",
    "token_ids_ptr": "*i64",
    "tile_order_ptr": "*i32",
    "tiles_before_ptr": "*i32",
    "order_ptr": "*i32",
    "position_ptr": "*i32",
    "rank_ptr": "*i32",
    "ceiling_ptr": "*i64",
    "floor_ptr": "*i64",
    "scores_ptr": "*fp32",
    "rejected_ptr": "*i64",
    "partial_keys_ptr": "*i64",
    "ids_ptr": "*i64",
    "partial_ptr": "*fp32",
    "loss_ptr": "*fp32",
    "log_normaliser_ptr": "*fp32",
    "log_probabilities_ptr": "*fp32",
    "loss_gradient_ptr": "*fp32",
    "log_normaliser_gradient_ptr": "*fp32",
    "bias_partial_ptr": "*fp32",
    "scale_ptr": "*fp32",
    "sum_ptr": "*fp32",
}

# Callers may pass either.
INDICES = ("rows_ptr", "targets_ptr", "token_ids_ptr", "set_index_ptr")
OTHER_INTEGER = {"*i32": "*i64", "*i64": "*i32"}


def variant(
    name: str,
    kernel: str,
    architecture: str,
    constexprs: dict[str, Any],
    *,
    dtype: str = "bf16",
    num_warps: int = 4,
    num_stages: int = 3,
    pointers: Mapping[str, str] = POINTERS,
) -> Variant:
    """A variant whose arguments are those that the kernel has."""
    module, _, function = kernel.partition(":")
    arguments = getattr(importlib.import_module(f"{MODULE}.{module}"), function).arg_names
    signature = {
        argument: "i32" if argument in SIZES else pointers.get(argument, f"*{dtype}")
        for argument in arguments
        if argument not in constexprs
    }
    return Variant(
        name=f"{name}-{dtype}-{architecture}",
        kernel=f"{MODULE}.{kernel}",
        target=architecture,
        signature=signature,
        constexprs=constexprs,
        num_warps=num_warps,
        num_stages=num_stages,
        aligned=tuple(argument for argument in ALIGNED if argument in signature),
    )


def matrix_variants(
    architecture: str,
    *,
    sets: str,
    vocabulary: int = 50_368,
    dtype: str = "bf16",
    keeps_scores: bool = False,
) -> Iterator[Variant]:
    """The four kernels with matrix products, as planned for 9,830 predictions of 768 units.

    Args:
        keeps_scores: as for fewer predictions, whose hidden gradient is split as well.
    """
    import torch

    from seqmlm_kernels.triton.projection_plan import plan_projection

    precision = "tf32" if dtype == "fp32" else "ieee"
    plan = plan_projection(
        9830,
        vocabulary,
        768,
        dtype=torch.float32 if dtype == "fp32" else torch.bfloat16,
        architecture=architecture,
        multiprocessors=132,
    )
    common = {"EVEN_E": True, "PRECISION": precision, "UPCAST": False}
    common["SKIPS_TILES"] = sets != "every" and vocabulary > plan.scores.vocabulary
    tiles = plan.scores
    scores = common | {
        "BLOCK_M": tiles.predictions,
        "BLOCK_V": tiles.vocabulary,
        "BLOCK_E": tiles.hidden,
        "HAS_BIAS": True,
        "SETS": sets,
    }
    products = common | {"TILE": tiles.vocabulary, "SCALES": False}
    kernels = {
        "statistics": (
            "projection_forward:statistics_kernel",
            tiles,
            scores | {"IS_SPLIT": True, "KEEPS_SCORES": keeps_scores},
        ),
        "score_gradient": (
            "gradient_kernels:score_gradient_kernel",
            plan.score_gradient,
            scores | {"NEEDS_BIAS_GRADIENT": True, "HAS_SCORES": keeps_scores},
        ),
        "hidden_gradient": (
            "gradient_kernels:hidden_gradient_kernel",
            plan.hidden_gradient,
            products
            | {"IS_SPLIT": keeps_scores, "IS_FIRST_SLAB": False, "ENDS_SUM": not keeps_scores},
        ),
        "weight_gradient": (
            "gradient_kernels:weight_gradient_kernel",
            plan.weight_gradient,
            products | {"ADDS": False},
        ),
    }
    for kind, (kernel, tiles, constexprs) in kernels.items():
        blocks = {
            "BLOCK_M": tiles.predictions,
            "BLOCK_V": tiles.vocabulary,
            "BLOCK_E": tiles.hidden,
        }
        yield variant(
            f"{kind}{'-kept' if keeps_scores else ''}-{sets}-{vocabulary}",
            kernel,
            architecture,
            constexprs | blocks,
            dtype=dtype,
            num_warps=tiles.num_warps,
            num_stages=tiles.num_stages,
        )


def one_pass_variants(
    architecture: str, *, sets: str, vocabulary: int = 33, dtype: str = "bf16"
) -> Iterator[Variant]:
    """The backward of a small vocabulary, as planned for 9,830 predictions of 1,280 units."""
    import torch

    from seqmlm_kernels.triton.projection_plan import plan_projection

    plan = plan_projection(
        9830,
        vocabulary,
        1280,
        dtype=torch.float32 if dtype == "fp32" else torch.bfloat16,
        architecture=architecture,
        multiprocessors=132,
    ).one_pass
    assert plan is not None
    tiles = plan.tiles
    for precision in ("ieee", "tf32") if dtype == "fp32" else ("ieee",):
        yield variant(
            f"one_pass-{sets}-{vocabulary}-{precision}",
            "one_pass:one_pass_kernel",
            architecture,
            {
                "BLOCK_M": tiles.predictions,
                "BLOCK_V": tiles.vocabulary,
                "BLOCK_E": tiles.hidden,
                "EVEN_E": True,
                "SETS": sets,
                "NEEDS_BIAS_GRADIENT": True,
                "SCALES": False,
                "PRECISION": precision,
                "UPCAST": False,
            },
            dtype=dtype,
            num_warps=tiles.num_warps,
            num_stages=tiles.num_stages,
        )


def row_variants(architecture: str) -> Iterator[Variant]:
    """Kernels without matrix products."""
    from seqmlm_kernels.triton import one_pass, repeated_rows, score_rows, token_scores, top_k

    tile = {"BLOCK_M": 1, "BLOCK_V": 4096, "SETS": "shared"}
    yield variant(
        "combine",
        "projection_forward:combine_kernel",
        architecture,
        {"BLOCK_M": 128, "SETS": "shared"},
    )
    for name in ("softmax", "softmax_gradient"):
        yield variant(
            name,
            f"row_kernels:{name}_kernel",
            architecture,
            tile,
            num_warps=score_rows.NUM_WARPS,
            pointers=POINTERS | {"scores_ptr": "*bf16"},
        )
    yield variant(
        "link",
        "repeated_rows:link_kernel",
        architecture,
        {
            "BLOCK_M": repeated_rows.LINKED_PREDICTIONS,
            "BLOCK": repeated_rows.COMPARED_BLOCK,
            "WIDTH": repeated_rows.RISING_BLOCK,
        },
    )
    yield variant(
        "sum_chains",
        "repeated_rows:sum_chains_kernel",
        architecture,
        {
            "SEGMENT": repeated_rows.SEGMENT,
            "BLOCK_M": repeated_rows.SUMMED_PREDICTIONS,
            "WIDTH": repeated_rows.LONG_BLOCK,
            "BLOCK_E": repeated_rows.HIDDEN_BLOCK,
            "ONLY_REPEATED": False,
        },
        pointers=POINTERS | {"gradient_ptr": "*fp32"},
    )
    yield variant(
        "sum_parts",
        "one_pass:sum_parts_kernel",
        architecture,
        {"BLOCK": one_pass.SUMMED_NUMBERS},
    )
    ids = {"BLOCK_K": token_scores.BLOCK_IDS, "BLOCK_E": token_scores.BLOCK_HIDDEN}
    yield variant(
        "token_scores",
        "token_scores:token_score_kernel",
        architecture,
        ids | {"HAS_BIAS": True, "SETS": "shared"},
    )
    tiles = top_k.TILES
    yield variant(
        "best_of_part",
        "top_k:best_of_part_kernel",
        architecture,
        {
            "WIDTH": top_k.MAX_K,
            "BLOCK_M": tiles.predictions,
            "BLOCK_V": tiles.vocabulary,
            "BLOCK_E": tiles.hidden,
            "EVEN_E": True,
            "HAS_BIAS": True,
            "SETS": "shared",
            "SKIPS_TILES": True,
            "HAS_CEILING": True,
            "PRECISION": "ieee",
            "UPCAST": False,
        },
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
    )
    yield variant(
        "merge_parts",
        "top_k:merge_parts_kernel",
        architecture,
        {"WIDTH": top_k.MAX_K, "BLOCK_M": top_k.MERGED_PREDICTIONS},
        num_warps=top_k.MERGING_WARPS,
    )


def with_other_flags(variants: Iterable[Variant]) -> Iterator[Variant]:
    """The variants, and each of them with the other value of one flag, and of all of them."""
    for one in variants:
        yield one
        others = {
            name: not value
            for name, value in one.constexprs.items()
            if isinstance(value, bool) and name != "UPCAST"
        }
        changes = {name: {name: value} for name, value in others.items()} | {"flags": others}
        for name, change in changes.items():
            if change:
                constexprs = {**one.constexprs, **change}
                yield replace(one, name=f"{one.name}-other-{name}", constexprs=constexprs)


def with_other_indices(variants: Iterable[Variant]) -> Iterator[Variant]:
    """The variants, and each that has indices with those of the other type."""
    for one in variants:
        yield one
        kinds = {
            name: OTHER_INTEGER[kind] for name, kind in one.signature.items() if name in INDICES
        }
        if kinds:
            name = f"{one.name}-other-indices"
            yield replace(one, name=name, signature={**one.signature, **kinds})


def every_variant() -> Iterator[Variant]:
    """Every kernel with either type of indices and value of its flags, each dtype and sets."""
    yield from with_other_indices(_by_flags())


def _by_flags() -> Iterator[Variant]:
    yield from with_other_flags(row_variants("sm_90"))
    for sets in ("shared", "every", "indexed"):
        yield from with_other_flags(matrix_variants("sm_90", sets=sets))
    yield from with_other_flags(matrix_variants("sm_90", sets="shared", vocabulary=33))
    for sets, vocabulary in (("indexed", 33), ("shared", 33), ("every", 33), ("indexed", 20)):
        yield from with_other_flags(one_pass_variants("sm_90", sets=sets, vocabulary=vocabulary))
    for dtype in ("fp16", "fp32"):
        yield from with_other_flags(one_pass_variants("sm_90", sets="indexed", dtype=dtype))
    # Three of the four differ where scores are kept.
    yield from itertools.islice(matrix_variants("sm_90", sets="shared", keeps_scores=True), 3)
    for dtype in ("fp16", "fp32"):
        yield from with_other_flags(matrix_variants("sm_90", sets="shared", dtype=dtype))
    for architecture in ("sm_80", "sm_100", "gfx942"):
        yield from row_variants(architecture)
        yield from matrix_variants(architecture, sets="shared")
        yield from matrix_variants(architecture, sets="shared", dtype="fp32")
        for dtype in ("bf16", "fp32"):
            yield from one_pass_variants(architecture, sets="indexed", dtype=dtype)


VARIANTS = covering(every_variant())
