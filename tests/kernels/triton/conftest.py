"""Triton kernels without a GPU: interpreted on CPU tensors, and compiled ahead of time.

Triton decides when a kernel is decorated whether it will be interpreted, and its own library of
kernels is decorated when it is imported. Hence TRITON_INTERPRET is set here, while the first
import happens, and then only while the tests of this folder run: elsewhere in the suite the
backend must be what a machine without a GPU sees. Compiling needs a process of its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.kernels.triton.ahead_of_time import Compiled
from tests.kernels.triton.guarded_memory import guarded_allocations

REPOSITORY = Path(__file__).parents[3]

with pytest.MonkeyPatch.context() as _environment:
    _environment.setenv("TRITON_INTERPRET", "1")
    if "triton" in sys.modules:
        raise pytest.UsageError(
            "triton was imported before tests/kernels/triton/conftest.py could ask for its "
            "interpreter; a test module must not import triton while it is collected."
        )
    import seqmlm_kernels.triton_backend  # noqa: F401


@pytest.fixture(scope="module", autouse=True)
def interpreted() -> Iterator[None]:
    """The backend counts as available on CPU tensors in this folder alone."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TRITON_INTERPRET", "1")
        yield


@pytest.fixture(scope="module", autouse=True)
def uninitialised_memory_is_nan() -> Iterator[None]:
    """torch.empty gives NaN, and the largest integer, to whoever reads before writing."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def use_tiles(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Give all kernels of attention the same small tiles, so that short sequences have many."""
    from seqmlm_kernels.triton import attention_plan
    from seqmlm_kernels.triton.launch import AttentionLaunch

    def use(outer: int, inner: int) -> None:
        launch = AttentionLaunch(outer, inner, num_warps=1, num_stages=1)
        monkeypatch.setattr(
            attention_plan, "launches_by_length", lambda key, general, **lengths: (launch,)
        )

    return use


@pytest.fixture
def made_tables(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Tables that were made since the test began."""
    from seqmlm_kernels.triton import tiles

    made: list[tiles.TileTable] = []

    class Counted(tiles.TileTable):
        def __init__(self, cu_seqlens: Tensor, tokens: int) -> None:
            super().__init__(cu_seqlens, tokens)
            made.append(self)

    monkeypatch.setattr(tiles, "TileTable", Counted)
    return made


@pytest.fixture
def guard_bands() -> Iterator[None]:
    """Fail if a kernel writes outside of what was allocated for it."""
    with guarded_allocations() as check:
        yield
        check()


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Mapping[str, Compiled]:
    """Every variant of every ``*_variants.py`` here by name, compiled once per test session."""
    folder = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        folder = folder.parent
    results = folder / "compiled_kernels.json"
    with open(folder / "compiled_kernels.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not results.exists():
            results.write_text(_compile_in_a_child())
    return {name: Compiled(**fields) for name, fields in json.loads(results.read_text()).items()}


def _compile_in_a_child() -> str:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [
        str(REPOSITORY), str(REPOSITORY / "kernels"), environment.get("PYTHONPATH", ""),
    ]))  # fmt: skip
    child = subprocess.run(
        [sys.executable, "-m", "tests.kernels.triton.ahead_of_time"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode != 0:
        pytest.fail(f"Compiling the kernels failed:\n{child.stderr[-4000:]}", pytrace=False)
    return child.stdout
