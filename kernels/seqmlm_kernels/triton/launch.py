"""How kernels are launched: what the device can do, and tiles, warps and stages for it.

Configurations come from a small table keyed by `LaunchKey`: Triton's version, the architecture,
the head dimension, the dtype and the kind of kernel. They never depend on the number of tokens, so
that a training run of varying lengths compiles each kernel once; `launches_by_length` only chooses
between them and a few for short sequences.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
import triton

from seqmlm_kernels.triton.tile_kernels import SIZES
from seqmlm_kernels.triton.tiles import SHORT, Lengths

# Read once: Triton decides when a kernel is decorated whether it is compiled or interpreted.
INTERPRETED: bool = triton.knobs.runtime.interpret

# Of a program, and inner tiles in flight, that a launch may have.
WARPS = (1, 2, 4, 8, 16, 32)
STAGES = (1, 2, 3, 4, 5, 6, 7, 8)

Architecture = Literal["sm_80", "sm_90", "sm_100", "gfx942", "small_shared_memory"]
InputPrecision = Literal["ieee", "tf32"]


@functools.cache
def architecture_of(device: torch.device) -> Architecture:
    """The row of the tables for a device; the interpreter is treated as Hopper."""
    if INTERPRETED or device.type == "cpu":
        return "sm_90"
    if torch.version.hip is not None:
        return "gfx942"
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) == (8, 0):
        return "sm_80"
    if major == 9:
        return "sm_90"
    if major == 10:
        return "sm_100"
    return "small_shared_memory"


def triton_version() -> str:
    """Without the patch level; the best launch under one version is not that under another."""
    return ".".join(triton.__version__.split(".")[:2])


def input_precision_of(dtype: torch.dtype) -> InputPrecision:
    """How a matrix product of fp32 inputs rounds them, by torch's own setting.

    ``torch.set_float32_matmul_precision``: "highest", which is the default, keeps all 24 bits
    ("ieee"; no tensor cores, many times slower); "high" and "medium" allow TF32. Other dtypes
    are not rounded and get "ieee".
    """
    if dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        return "tf32"
    return "ieee"


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Inside, Triton launches on ``device``, which need not be the current one of several GPUs."""
    return nullcontext() if device.type == "cpu" else torch.cuda.device(device)


def must_upcast(dtype: torch.dtype) -> bool:
    """Whether kernels cast to fp32 after loading: the interpreter has no bfloat16 arithmetic."""
    return INTERPRETED and dtype == torch.bfloat16


Kind = Literal["forward", "backward_queries", "backward_keys", "backward_atomic"]


@dataclass(frozen=True)
class AttentionLaunch:
    """Tiles of an attention kernel, and what Triton is told about it.

    Args:
        outer: tokens that a program owns: queries, or keys in the last two kinds.
        inner: tokens that it reads at a time.
        num_warps: warps of a program.
        num_stages: how many inner tiles are in flight.
        lengths: which sequences it is for.

    Raises:
        ValueError: there are no such tiles, warps or stages.
    """

    outer: int
    inner: int
    num_warps: int
    num_stages: int
    lengths: Lengths = "any"

    def __post_init__(self) -> None:
        if not {self.outer, self.inner} <= {*SIZES}:
            raise ValueError(f"{self}: outer and inner are among {SIZES}.")
        if self.num_warps not in WARPS or self.num_stages not in STAGES:
            raise ValueError(f"{self}: num_warps is among {WARPS}, num_stages among {STAGES}.")
        if self.lengths not in get_args(Lengths):
            raise ValueError(f"{self}: lengths is among {get_args(Lengths)}.")


@dataclass(frozen=True)
class LaunchKey:
    """What a launch depends on, and the number of tokens is not among it.

    Args:
        triton: `triton_version`.
        head_dim: padded to a power of two, at least 64.
        is_restricted: whether there is a visibility or a window.
    """

    triton: str
    architecture: Architecture
    head_dim: int
    dtype: torch.dtype
    input_precision: InputPrecision
    kind: Kind
    is_restricted: bool

    @classmethod
    def of(
        cls,
        kind: Kind,
        *,
        architecture: Architecture,
        padded_head_dim: int,
        dtype: torch.dtype,
        is_restricted: bool,
        input_precision: InputPrecision | None = None,
    ) -> LaunchKey:
        """The key under the Triton that is installed; torch's present precision when None."""
        return cls(
            triton=triton_version(),
            architecture=architecture,
            head_dim=max(padded_head_dim, 64),
            dtype=dtype,
            input_precision=input_precision or input_precision_of(dtype),
            kind=kind,
            is_restricted=is_restricted,
        )

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        pairs = "restricted" if self.is_restricted else "all_pairs"
        parts = (self.triton, self.architecture, self.head_dim, dtype, self.input_precision)
        return "-".join(map(str, ("triton", *parts, self.kind, pairs)))


# Rows that were measured on a GPU, which `benchmarks.gpu` prints; they precede the tables below.
_MEASURED: Mapping[LaunchKey, AttentionLaunch] = {}
# By (kind, padded head dimension), for 16-bit inputs. Chosen by what the compiler says of
# registers, stack and shared memory, and not yet by time on a GPU.
_TILES_16_BIT: dict[Architecture, dict[tuple[Kind, int], AttentionLaunch]] = {
    "sm_80": {
        ("forward", 64): AttentionLaunch(128, 64, 4, 3),
        ("forward", 128): AttentionLaunch(128, 64, 8, 2),
        ("forward", 256): AttentionLaunch(32, 32, 8, 2),
        ("backward_queries", 64): AttentionLaunch(128, 64, 8, 2),
        ("backward_queries", 128): AttentionLaunch(64, 64, 8, 2),
        ("backward_queries", 256): AttentionLaunch(32, 16, 8, 1),
        ("backward_keys", 64): AttentionLaunch(128, 64, 8, 2),
        ("backward_keys", 128): AttentionLaunch(64, 64, 8, 2),
        ("backward_keys", 256): AttentionLaunch(32, 32, 8, 1),
        ("backward_atomic", 64): AttentionLaunch(64, 64, 8, 2),
        ("backward_atomic", 128): AttentionLaunch(64, 64, 8, 2),
        ("backward_atomic", 256): AttentionLaunch(32, 32, 8, 1),
    },
    "sm_90": {
        ("forward", 64): AttentionLaunch(128, 64, 4, 3),
        ("forward", 128): AttentionLaunch(128, 128, 8, 2),
        ("forward", 256): AttentionLaunch(128, 64, 8, 2),
        ("backward_queries", 64): AttentionLaunch(128, 64, 8, 2),
        ("backward_queries", 128): AttentionLaunch(128, 64, 8, 2),
        ("backward_queries", 256): AttentionLaunch(32, 32, 8, 1),
        ("backward_keys", 64): AttentionLaunch(128, 64, 8, 2),
        ("backward_keys", 128): AttentionLaunch(128, 32, 8, 2),
        ("backward_keys", 256): AttentionLaunch(32, 32, 8, 1),
        ("backward_atomic", 64): AttentionLaunch(128, 64, 8, 2),
        ("backward_atomic", 128): AttentionLaunch(128, 32, 8, 2),
        ("backward_atomic", 256): AttentionLaunch(32, 32, 8, 1),
    },
}
_TILES_16_BIT["sm_100"] = {
    **_TILES_16_BIT["sm_90"],
    ("forward", 64): AttentionLaunch(128, 64, 8, 2),
    ("forward", 128): AttentionLaunch(128, 64, 8, 2),
    ("forward", 256): AttentionLaunch(32, 32, 8, 2),
    ("backward_queries", 128): AttentionLaunch(64, 64, 8, 2),
    ("backward_keys", 128): AttentionLaunch(64, 32, 8, 2),
    ("backward_atomic", 64): AttentionLaunch(64, 64, 8, 2),
    ("backward_atomic", 128): AttentionLaunch(64, 32, 8, 2),
}
_TILES_16_BIT["gfx942"] = {
    key: AttentionLaunch(min(found.outer, 64), min(found.inner, 32), 4, 1)
    for key, found in _TILES_16_BIT["sm_80"].items()
}
for _kind in ("backward_keys", "backward_atomic"):
    _TILES_16_BIT["gfx942"][_kind, 256] = AttentionLaunch(32, 16, 4, 1)
# Consumer GPUs have at most 99 KiB of shared memory for a program.
_TILES_16_BIT["small_shared_memory"] = {
    key: AttentionLaunch(min(found.outer, 64), 32, 4, min(found.num_stages, 2))
    for key, found in _TILES_16_BIT["sm_80"].items()
}
# Exact fp32 has no matrix units: operands of a product are in registers, so tiles are small.
_TILES_FP32: dict[InputPrecision, dict[tuple[Kind, int], AttentionLaunch]] = {
    "ieee": {
        ("forward", 64): AttentionLaunch(16, 16, 8, 1),
        ("forward", 128): AttentionLaunch(16, 16, 8, 1),
        ("forward", 256): AttentionLaunch(16, 16, 8, 1),
        ("backward_queries", 64): AttentionLaunch(16, 16, 8, 1),
        ("backward_queries", 128): AttentionLaunch(16, 16, 8, 1),
        ("backward_queries", 256): AttentionLaunch(16, 16, 8, 1),
        ("backward_keys", 64): AttentionLaunch(32, 32, 8, 1),
        ("backward_keys", 128): AttentionLaunch(32, 16, 8, 1),
        ("backward_keys", 256): AttentionLaunch(16, 16, 8, 1),
    },
    "tf32": {
        ("forward", 64): AttentionLaunch(64, 32, 4, 2),
        ("forward", 128): AttentionLaunch(64, 32, 8, 1),
        ("forward", 256): AttentionLaunch(32, 16, 4, 1),
        ("backward_queries", 64): AttentionLaunch(64, 32, 4, 2),
        ("backward_queries", 128): AttentionLaunch(32, 32, 8, 1),
        ("backward_queries", 256): AttentionLaunch(16, 16, 8, 1),
        ("backward_keys", 64): AttentionLaunch(64, 32, 4, 2),
        ("backward_keys", 128): AttentionLaunch(32, 32, 8, 1),
        ("backward_keys", 256): AttentionLaunch(16, 16, 8, 1),
    },
}
for _rows in _TILES_FP32.values():
    _rows |= {
        ("backward_atomic", head_dim): launch
        for (kind, head_dim), launch in _rows.items()
        if kind == "backward_keys"
    }
_TILES_FP32["tf32"]["backward_atomic", 64] = AttentionLaunch(32, 32, 4, 2)
# Launches for sequences of at most so many tokens, by padded head dimension: one tile of so many
# tokens, unless registers allow less. Only for 16-bit inputs: tiles of fp32 are small anyway.
_SHORT: dict[int, dict[int, AttentionLaunch]] = {
    64: {
        16: AttentionLaunch(16, 16, 1, 1),
        32: AttentionLaunch(32, 32, 2, 1),
        64: AttentionLaunch(64, 64, 4, 1),
    },
    128: {
        16: AttentionLaunch(16, 16, 2, 1),
        32: AttentionLaunch(32, 32, 4, 1),
        64: AttentionLaunch(64, 32, 8, 1),
    },
    256: {
        16: AttentionLaunch(16, 16, 4, 1),
        32: AttentionLaunch(32, 32, 8, 1),
        64: AttentionLaunch(32, 32, 8, 1),
    },
}

# Fewer short sequences do not fill a GPU: a second launch would cost more than it saves.
_FEWEST_TO_SPLIT = 32


def table_launch(key: LaunchKey) -> AttentionLaunch:
    """Tiles for sequences of any length, from the tables."""
    if key in _MEASURED:
        return _MEASURED[key]
    if key.dtype == torch.float32:
        if key.architecture == "gfx942":
            return _of_few_warps(_TILES_FP32["ieee"][key.kind, key.head_dim])
        return _TILES_FP32[key.input_precision][key.kind, key.head_dim]
    return _TILES_16_BIT[key.architecture][key.kind, key.head_dim]


def shortened(key: LaunchKey, general: AttentionLaunch, most_tokens: int) -> AttentionLaunch:
    """One of three smaller launches for sequences of at most 16, 32 or 64 tokens."""
    if key.dtype == torch.float32:
        return general
    for length, launch in _SHORT[key.head_dim].items():
        is_no_larger = length <= general.outer and launch.inner <= general.inner
        if most_tokens <= length and is_no_larger:
            return _of_few_warps(launch) if key.architecture == "gfx942" else launch
    return general


def _of_few_warps(launch: AttentionLaunch) -> AttentionLaunch:
    """At most four, of 64 threads: of eight a thread has half the registers, and spills them."""
    return replace(launch, num_warps=min(launch.num_warps, 4))


def launches_by_length(
    key: LaunchKey, general: AttentionLaunch, *, max_seqlen: int, num_sequences: int, tokens: int
) -> tuple[AttentionLaunch, ...]:
    """The launches for the sequences of a batch: one, or one for the short and one for the others.

    Where the mean length is below SHORT and the longest sequence above it, tiles for that one
    would be mostly empty for most. Tiles of the short ones have the size that suits the mean:
    several of 32 tokens take the pairs that one of 64 has. This is all that lengths ever decide.
    """
    if max_seqlen <= SHORT:
        return (shortened(key, general, max_seqlen),)
    if num_sequences < _FEWEST_TO_SPLIT or tokens > SHORT * num_sequences:
        return (general,)
    short = shortened(key, general, 16 if tokens <= 16 * num_sequences else 32)
    if short.outer == general.outer:
        return (general,)
    return replace(general, lengths="long"), replace(short, lengths="short")
