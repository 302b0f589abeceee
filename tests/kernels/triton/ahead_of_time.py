"""Kernels compiled for GPUs that are not there, and what the binaries need.

Triton carries ptxas and cuobjdump, so neither a GPU nor the CUDA toolkit is needed. Run as a
module it compiles every variant of the ``*_variants.py`` beside it and prints JSON. It must run
without TRITON_INTERPRET, hence in a process of its own: see ``compiled`` in conftest.py.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
# (backend, architecture, threads of a warp) as Triton's GPUTarget takes them.
TARGETS: Mapping[str, tuple[str, int | str, int]] = {
    "sm_80": ("cuda", 80, 32),
    "sm_90": ("cuda", 90, 32),
    "sm_100": ("cuda", 100, 32),
    "gfx942": ("hip", "gfx942", 64),
}
# Counted in PTX, or in the assembly of AMD.
INSTRUCTIONS: Mapping[str, str] = {
    "wgmma": r"wgmma\.mma_async",
    "mma.sync": r"mma\.sync",
    "tcgen05.mma": r"tcgen05\.mma",
    "mfma": r"v_mfma",
    "cp.async": r"cp\.async(?!\.bulk)\.c",
    "ex2": r"ex2\.approx",
    "atomic": r"\batom\.|\bred\.global|global_atomic|flat_atomic",
}


@dataclass(frozen=True)
class Variant:
    """One kernel with everything that the launch would fix.

    Args:
        name: unique over all ``*_variants.py``.
        kernel: "module:function" of a ``@triton.jit`` function.
        target: a key of TARGETS.
        signature: Triton type of each argument that is no constexpr: "*bf16", "i32", "fp32".
        constexprs: value of each constexpr.
        aligned: pointers are taken to be divisible by 16, as torch allocates them; these
            integers as well, as the launch finds for multiples of 16.
    """

    name: str
    kernel: str
    target: str
    signature: Mapping[str, str]
    constexprs: Mapping[str, Any]
    num_warps: int
    num_stages: int
    aligned: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compiled:
    """What a compiled variant needs; registers and stack are those of ptxas, None on AMD."""

    shared_bytes: int
    registers: int | None = None
    stack_bytes: int | None = None
    instructions: Mapping[str, int] = field(default_factory=dict)


def compile_variant(variant: Variant) -> Compiled:
    """Compile one variant for its target."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module, _, function = variant.kernel.partition(":")
    kernel = getattr(importlib.import_module(module), function)
    unknown = {*variant.signature, *variant.constexprs} ^ set(kernel.arg_names)
    if unknown:
        raise ValueError(f"{variant.name}: these arguments disagree with the kernel: {unknown}.")
    types = {name: variant.signature.get(name, "constexpr") for name in kernel.arg_names}
    attributes = {
        (index,): [["tt.divisibility", 16]]
        for index, (name, kind) in enumerate(types.items())
        if kind.startswith("*") or name in variant.aligned
    }
    source = ASTSource(
        fn=kernel, signature=types, constexprs=dict(variant.constexprs), attrs=attributes
    )
    options = {"num_warps": variant.num_warps, "num_stages": variant.num_stages}
    binary = triton.compile(source, target=GPUTarget(*TARGETS[variant.target]), options=options)
    text = binary.asm.get("ptx") or binary.asm["amdgcn"]
    counts = {name: len(re.findall(pattern, text)) for name, pattern in INSTRUCTIONS.items()}
    shared_bytes = int(binary.metadata.shared)
    if "cubin" not in binary.asm:
        return Compiled(shared_bytes, instructions=counts)
    registers, stack_bytes = _resource_usage(binary.asm["cubin"])
    return Compiled(shared_bytes, registers, stack_bytes, counts)


def all_variants() -> list[Variant]:
    """Variants of every ``*_variants.py`` of this folder."""
    variants: list[Variant] = []
    for path in sorted(FOLDER.glob("*_variants.py")):
        variants += importlib.import_module(f"tests.kernels.triton.{path.stem}").VARIANTS
    names = [variant.name for variant in variants]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(f"These names stand for several variants: {sorted(repeated)}.")
    return variants


def report(variants: Iterable[Variant]) -> str:
    """Compile the variants; JSON of Compiled by name."""
    return json.dumps({v.name: asdict(compile_variant(v)) for v in variants}, indent=1)


def _resource_usage(cubin: bytes) -> tuple[int, int]:
    """Registers of a thread and its stack in bytes, by cuobjdump."""
    from triton.backends import nvidia

    tool = Path(next(iter(nvidia.__path__))) / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        output = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", output)
    if found is None:
        raise RuntimeError(f"cuobjdump printed no resource usage: {output}")
    return int(found[1]), int(found[2])


if __name__ == "__main__":
    chosen = [v for v in all_variants() if not sys.argv[1:] or v.name in sys.argv[1:]]
    print(report(chosen))
