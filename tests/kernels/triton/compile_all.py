"""Every variant of every kernel compiled and held to its bounds, for `make compile-all`.

What is compiled is kept as soon as it is: started again, it goes on where it was stopped, and
compiles anew only what another kernel, launch or Triton changes.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.record import RESULTS, describe_machine, print_table, write_result
from tests.kernels.triton.ahead_of_time import (
    TARGETS,
    Compiled,
    Variant,
    compile_variant,
    every_variant,
    kernel_of,
)
from tests.kernels.triton.bounds import exceeded

KEPT = Path("build/compiled_kernels")
# Of a line about progress.
EVERY_S = 30.0


def key_of(variant: Variant) -> str:
    """Differs where the sources of a kernel, Triton or what a launch fixes differ."""
    triton = importlib.import_module("triton")
    parts = (kernel_of(variant).cache_key, triton.__version__, repr(replace(variant, name="")))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def kept(folder: Path) -> dict[str, Compiled]:
    """What earlier runs compiled, by key."""
    return {
        path.stem: Compiled(**json.loads(path.read_text(encoding="utf-8")))
        for path in folder.glob("*.json")
    }


def keep(folder: Path, key: str, compiled: Compiled) -> None:
    """Add a file, whole or not at all."""
    unfinished = folder / f"{key}.unfinished"
    unfinished.write_text(json.dumps(asdict(compiled)), encoding="utf-8")
    unfinished.replace(folder / f"{key}.json")


def compile_missing(
    variants: Mapping[str, Variant], folder: Path, num_processes: int
) -> Iterator[tuple[Variant, Compiled | BaseException]]:
    """Compile those that are not kept, by key, and keep each; an error stands for its result."""
    folder.mkdir(parents=True, exist_ok=True)
    found = kept(folder)
    for key in variants.keys() & found.keys():
        yield variants[key], found[key]
    # Not forked: a copy of this process would share the locks of torch's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        keys = {
            pool.submit(compile_variant, variant): key
            for key, variant in variants.items()
            if key not in found
        }
        for future in as_completed(keys):
            key, error = keys[future], future.exception()
            if error is None:
                keep(folder, key, future.result())
            yield variants[key], error or future.result()


def compile_with_progress(
    variants: Mapping[str, Variant], folder: Path, num_processes: int
) -> tuple[list[tuple[Variant, Compiled]], dict[str, str]]:
    """What was compiled, and what failed or is beyond its bounds, by name."""
    compiled: list[tuple[Variant, Compiled]] = []
    failures: dict[str, str] = {}
    told_at = time.monotonic()
    for done, (variant, result) in enumerate(compile_missing(variants, folder, num_processes), 1):
        if isinstance(result, Compiled):
            compiled.append((variant, result))
            reason = "; ".join(exceeded(variant, result))
        else:
            reason = f"{type(result).__name__}: {result}"
        if reason:
            failures[variant.name] = reason
            print(f"{variant.name}: {reason}", flush=True)
        if time.monotonic() - told_at > EVERY_S:
            told_at = time.monotonic()
            print(f"{done:,} of {len(variants):,}, {len(failures)} failures", flush=True)
    return compiled, failures


def worst(compiled: Sequence[tuple[Variant, Compiled]]) -> list[dict[str, object]]:
    """By kernel and target: how many variants, and the most that any of them needs."""
    groups: dict[tuple[str, str], list[Compiled]] = {}
    for variant, result in compiled:
        kernel = variant.kernel.partition(":")[2]
        groups.setdefault((kernel, variant.target), []).append(result)
    return [
        {
            "kernel": kernel,
            "target": target,
            "variants": len(results),
            "registers": max(result.registers for result in results),
            "stack_bytes": max(result.stack_bytes for result in results),
            "shared_bytes": max(result.shared_bytes for result in results),
        }
        for (kernel, target), results in sorted(groups.items())
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, print the worst by kernel and target, record; 1 where a variant fails."""
    parser = argparse.ArgumentParser(prog="compile_all", description=__doc__)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder of what is compiled")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    machine = describe_machine()
    variants = {key_of(one): one for one in every_variant() if one.target in options.targets}
    compiled, failures = compile_with_progress(variants, options.kept, options.processes)
    rows = worst(compiled)
    names = ("kernel", "target", "variants", "registers", "stack_bytes", "shared_bytes")
    print_table(
        "The most of any variant", names, [[f"{row[name]}" for name in names] for row in rows]
    )
    triton = importlib.import_module("triton")
    settings = {"targets": options.targets, "triton": triton.__version__}
    write_result(
        "compiled_kernels", options.results,
        machine=machine, settings=settings, rounds=rows, summary={"failures": failures},
    )  # fmt: skip
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
