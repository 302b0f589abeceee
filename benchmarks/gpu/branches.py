"""Which branches of the launchers ran: read off the launches themselves, not claimed by a case.

A branch is what is compiled into a kernel (a flag, a kind of set, a precision), a launch of the
tables of attention, or whether a loop over tiles, parts or heads has one turn or several. All that
there are follow from the arguments of the kernels and from the tables, so that a new kernel, flag
or row is asked for as soon as it exists.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import torch

import seqmlm_kernels.triton
from seqmlm_kernels.triton.launch import (
    Architecture,
    AttentionLaunch,
    InputPrecision,
    Kind,
    LaunchKey,
    shortened,
    table_launch,
)

HEAD_DIMS = (32, 64, 96, 128, 256)
# Most tokens of a sequence: three launches for short ones, and that of all others.
MOST_TOKENS = (16, 32, 64, 1 << 20)
FLAGS = (
    *("HAS_VISIBILITY", "HAS_WINDOW", "ADDS_TO_QUERIES", "EVEN_E", "HAS_BIAS", "SKIPS_TILES"),
    *("IS_SPLIT", "ADDS", "NEEDS_BIAS_GRADIENT", "IS_FIRST_SLAB", "ENDS_SUM", "ONLY_REPEATED"),
    *("SCALES", "KEEPS_SCORES", "HAS_SCORES", "HAS_CEILING", "OUTER_IS_QUERIES"),
)
# Follow from the case, and make no other branch; UPCAST is the interpreter's.
SIZES = (
    *("HEADS", "KV_HEADS", "HEAD_DIM", "PADDED", "OUTER", "INNER"),
    *("SIZE", "COLUMN", "ROWS", "HALF", "PADDED_HALF", "BLOCK", "BLOCK_M", "BLOCK_V", "BLOCK_E"),
    *("BLOCK_K", "TILE", "WIDTH", "SEGMENT", "UPCAST"),
)
COUNTS = ("HEADS_PER_KV_HEAD", "num_splits")
ONE, SEVERAL = "one", "several"
# A softmax is always over given sets, one part needs no combining, and one pass has one tile.
IMPOSSIBLE = {
    "one_pass_kernel: vocabulary tiles = several",
    "combine_kernel: num_splits = one",
    "softmax_kernel: SETS = every",
    "softmax_gradient_kernel: SETS = every",
}
SORTED_ROWS = "rows of predictions linked by sorting"
ONE_PROJECTION = "q, k and v are slices of one projection"
COMPILED = "attention in torch.compile"
COMPILED_LOSS = "cross-entropy in torch.compile"
REPLAYED = "attention in a replayed CUDA graph"
REPLAYED_LOSS = "cross-entropy in a replayed CUDA graph"
REPEATED_ROWS = "rows predicted several times"
MIXED_LENGTHS = "long sequences among many short ones"
WAYS = (
    *(ONE_PROJECTION, MIXED_LENGTHS, COMPILED, COMPILED_LOSS, REPLAYED, REPLAYED_LOSS),
    REPEATED_ROWS,
)


@dataclass
class Launches:
    """What was launched while it was recorded.

    Args:
        branches: names, as `required` has them.
        variants: what Triton compiles separately: kernel, and of each argument what it compiles
            for, as `compiled_for` says.
    """

    branches: set[str] = field(default_factory=set)
    variants: set[tuple[Any, ...]] = field(default_factory=set)

    def add(
        self, kernel: str, arguments: Mapping[str, Any], unspecialised: Collection[str] = ()
    ) -> None:
        """One launch with its arguments by name, num_warps and num_stages included.

        Args:
            unspecialised: integers that Triton compiles for by their type alone.
        """
        self.branches |= set(branches_of(kernel, arguments))
        if kernel == "sum_chains_kernel" and "link_kernel" not in self.kernels():
            self.branches.add(SORTED_ROWS)
        self.variants.add(
            (kernel, *(compiled_for(*one, unspecialised) for one in arguments.items()))
        )

    def kernels(self) -> set[str]:
        """Names of the kernels that were launched."""
        return {str(variant[0]) for variant in self.variants}


def compiled_for(name: str, value: object, unspecialised: Collection[str]) -> object:
    """What Triton compiles a kernel for, of one argument.

    Of a constexpr and of the numbers of warps and stages it is the value; of a tensor the dtype
    and whether 16 divides its address; of an integer the type, and whether it is 1 and whether 16
    divides it.
    """
    if not name.islower() or name in ("num_warps", "num_stages"):
        return value
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.data_ptr() % 16 == 0
    if isinstance(value, int):
        bits = 32 if -(1 << 31) <= value < 1 << 31 else 64
        return (bits,) if name in unspecialised else (bits, value == 1, value % 16 == 0)
    return type(value).__name__


def kernels() -> dict[str, Any]:
    """Every kernel that the Triton backend launches, by name."""
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(seqmlm_kernels.triton.__path__):
        contents = vars(importlib.import_module(f"seqmlm_kernels.triton.{module.name}"))
        found |= {
            name: value
            for name, value in contents.items()
            if name.endswith("_kernel") and hasattr(value, "arg_names")
        }
    return found


@contextmanager
def recorded() -> Iterator[Launches]:
    """Record what the backend launches meanwhile, in this process."""
    launches = Launches()
    ours = {id(kernel): name for name, kernel in kernels().items()}
    interface: Any = type(next(iter(kernels().values())))
    run = interface.run

    def record_and_run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if id(self) in ours:
            given = dict(zip(self.arg_names, args, strict=False))
            launches.add(ours[id(self)], given | kwargs, _unspecialised(self))
        return run(self, *args, **kwargs)

    interface.run = record_and_run
    try:
        yield launches
    finally:
        interface.run = run


def _unspecialised(kernel: Any) -> Collection[str]:
    """Of a kernel that Triton compiles, or interprets."""
    options = getattr(kernel, "kwargs", None) or vars(kernel)
    return options.get("do_not_specialize") or ()


@contextmanager
def products_in(precision: InputPrecision) -> Iterator[None]:
    """Inside, matrix products of fp32 round as said, by torch's own setting."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def branches_of(kernel: str, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Branches that one launch takes."""
    for name, value in arguments.items():
        if name in FLAGS or isinstance(value, str):
            yield f"{kernel}: {name} = {value}"
        if name in COUNTS:
            yield f"{kernel}: {name} = {SEVERAL if value > 1 else ONE}"
    if "OUTER" in arguments:
        kind = "backward_atomic" if arguments.get("ADDS_TO_QUERIES") else _KINDS[kernel]
        launch = AttentionLaunch(
            *(arguments[name] for name in ("OUTER", "INNER", "num_warps", "num_stages"))
        )
        yield _launch_name(kind, arguments["HEAD_DIM"], arguments["INPUT_PRECISION"], launch)
    if "HALF" in arguments:
        yield f"{kernel}: head_dim {2 * arguments['HALF']}"
    if arguments.keys() >= _OVER_VOCABULARY:
        is_one = arguments["vocabulary_size"] <= arguments["BLOCK_V"]
        yield f"{kernel}: vocabulary tiles = {ONE if is_one else SEVERAL}"


def required(dtype: torch.dtype, architecture: Architecture) -> set[str]:
    """Every branch that operands of a dtype can take.

    Raises:
        ValueError: a kernel has a constexpr of which it is not known whether it makes branches.
    """
    names = {SORTED_ROWS, *WAYS}
    for kernel, function in kernels().items():
        arguments = set(function.arg_names)
        for argument in arguments:
            values = _values(argument, dtype)
            if values is None and argument.isupper() and argument not in SIZES:
                raise ValueError(
                    f"{kernel} has the constexpr {argument}: add it to FLAGS or SIZES of "
                    f"{__name__}, so that every value of it is run, or none need be."
                )
            names |= {f"{kernel}: {argument} = {value}" for value in values or ()}
        if arguments >= _OVER_VOCABULARY:
            names |= {f"{kernel}: vocabulary tiles = {count}" for count in (ONE, SEVERAL)}
        if "HALF" in arguments:
            names |= {f"{kernel}: head_dim {head_dim}" for head_dim in HEAD_DIMS}
    return names - IMPOSSIBLE | set(_attention_launches(dtype, architecture))


# Kernels that compute scores or read them.
_OVER_VOCABULARY = {"vocabulary_size", "BLOCK_V", "SETS"}
_KINDS: Mapping[str, Kind] = {
    "attention_forward_kernel": "forward",
    "attention_backward_queries_kernel": "backward_queries",
    "attention_backward_keys_kernel": "backward_keys",
}


def _values(argument: str, dtype: torch.dtype) -> tuple[object, ...] | None:
    if argument == "SCALES":  # gradients that could underflow
        return (dtype == torch.float16,)
    if argument in FLAGS:
        return (False, True)
    if argument in COUNTS:
        return (ONE, SEVERAL)
    if argument == "SETS":
        return ("every", "shared", "indexed")
    if argument in ("PRECISION", "INPUT_PRECISION"):
        return precisions(dtype)
    return None


def precisions(dtype: torch.dtype) -> tuple[InputPrecision, ...]:
    """How products of a dtype can round."""
    return get_args(InputPrecision) if dtype == torch.float32 else ("ieee",)


def _attention_launches(dtype: torch.dtype, architecture: Architecture) -> Iterator[str]:
    """Launches of every kind, head dimension, precision and length."""
    for kind in get_args(Kind):
        for head_dim in HEAD_DIMS:
            key = LaunchKey.of(
                kind,
                architecture=architecture,
                padded_head_dim=1 << (head_dim - 1).bit_length(),
                dtype=dtype,
                is_restricted=False,
            )
            for precision in precisions(dtype):
                exact = replace(key, input_precision=precision)
                for most_tokens in MOST_TOKENS:
                    launch = shortened(exact, table_launch(exact), most_tokens)
                    yield _launch_name(kind, head_dim, precision, launch)


def _launch_name(
    kind: Kind, head_dim: int, precision: InputPrecision, launch: AttentionLaunch
) -> str:
    return (
        f"attention {kind}, head_dim {head_dim}, {precision}: tiles {launch.outer} x "
        f"{launch.inner}, {launch.num_warps} warps, {launch.num_stages} stages"
    )
