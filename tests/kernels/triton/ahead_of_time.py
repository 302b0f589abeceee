"""Kernels compiled for GPUs that are not there, and what the binaries need.

Triton carries ptxas and cuobjdump, so neither a GPU nor the CUDA toolkit is needed. Run as a
module it compiles every variant of the ``*_variants.py`` beside it and prints JSON. It must run
without TRITON_INTERPRET, hence in a process of its own: see ``compiled`` in conftest.py.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
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
    """What a compiled variant needs: of a program, and registers and stack of each thread."""

    shared_bytes: int
    registers: int
    stack_bytes: int
    instructions: Mapping[str, int] = field(default_factory=dict)


def kernel_of(variant: Variant) -> Any:
    """The kernel itself, as Triton decorated it."""
    module, _, function = variant.kernel.partition(":")
    return getattr(importlib.import_module(module), function)


def compile_variant(variant: Variant) -> Compiled:
    """Compile one variant for its target."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = kernel_of(variant)
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
    if "cubin" in binary.asm:
        registers, stack_bytes = _resource_usage(binary.asm["cubin"])
    else:
        registers, stack_bytes = _amd_resource_usage(text)
    return Compiled(shared_bytes, registers, stack_bytes, counts)


def dtype_of(variant: Variant) -> str:
    """Dtype of what a variant computes with, "bf16", "fp16" or "fp32"."""
    kinds = {kind.removeprefix("*") for kind in variant.signature.values() if kind[0] == "*"}
    return next((kind for kind in ("bf16", "fp16") if kind in kinds), "fp32")


def all_variants() -> list[Variant]:
    """What the tests compile of every ``*_variants.py`` of this folder."""
    return [variant for module in _modules() for variant in module.VARIANTS]


def every_variant() -> list[Variant]:
    """All that launches can compile, each once.

    Raises:
        ValueError: a name stands for several variants.
    """
    variants = [variant for module in _modules() for variant in module.every_variant()]
    repeated = [name for name, count in Counter(one.name for one in variants).items() if count > 1]
    if repeated:
        raise ValueError(f"These names stand for several variants: {sorted(repeated)}.")
    return list({repr(replace(variant, name="")): variant for variant in variants}.values())


def _modules() -> Iterator[Any]:
    for path in sorted(FOLDER.glob("*_variants.py")):
        yield importlib.import_module(f"tests.kernels.triton.{path.stem}")


def report(variants: Sequence[Variant], num_processes: int) -> str:
    """Compile the variants in processes of their own; JSON of Compiled by name."""
    # Not forked: a copy of this process would share the locks of torch's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        compiled = list(pool.map(_compile_or_name, variants))
    return json.dumps(
        {variant.name: asdict(one) for variant, one in zip(variants, compiled, strict=True)},
        indent=1,
    )


def _compile_or_name(variant: Variant) -> Compiled:
    """The variant compiled; what fails says which one it was."""
    try:
        return compile_variant(variant)
    except Exception as error:
        error.add_note(f"while {variant.name} was compiled")
        raise


def _amd_resource_usage(assembly: str) -> tuple[int, int]:
    """Vector registers of a thread and its scratch memory in bytes."""
    registers, stack_bytes = (
        re.search(rf"\.{name}:\s*(\d+)", assembly)
        for name in ("vgpr_count", "private_segment_fixed_size")
    )
    if registers is None or stack_bytes is None:
        raise RuntimeError("The assembly does not say what registers and memory it needs.")
    return int(registers[1]), int(stack_bytes[1])


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
    chosen_names = sys.argv[1:]
    print(
        report(
            [v for v in all_variants() if not chosen_names or v.name in chosen_names],
            os.cpu_count() or 1,
        )
    )
