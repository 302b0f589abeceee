"""Every registered backend of the kernels is held to its contract."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from seqmlm.testing import check_backend
from seqmlm_kernels import contract
from seqmlm_kernels.contract import Subject, checks
from seqmlm_kernels.dispatch import BACKENDS, BackendUnavailableError
from tests.contract.broken_backends import BROKEN, Broken

REPOSITORY = Path(__file__).parents[2]
EVERY_DTYPE = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
HERE = ("reference", "torch")
# Triton interprets only what is decorated under TRITON_INTERPRET: in a process of its own.
INTERPRETED = ("triton",)

# Scores of this size are kept for the backward; as if there were no room for them, or for all
# predictions and ids at a time, they are computed again in parts.
RECOMPUTED = """
import torch
from seqmlm_kernels import contract, triton_backend
from seqmlm_kernels.triton import projection_launch, projection_plan
backward, recomputed = projection_launch.backward, []
def record(plan, projection, upstream, needs):
    recomputed.append(upstream.scores is None and needs.hidden and needs.weight)
    return backward(plan, projection, upstream, needs)
projection_launch.backward = record
projection_plan.MATERIALISED_BYTES = 0
projection_plan.SLAB_BYTES = 64 * 16 * 2
projection_plan.CHUNK_PREDICTIONS = 16
subject = contract.Subject(triton_backend, torch.device("cpu"), torch.float32)
for name, check in contract.checks().items():
    if name.startswith("cross-entropy") and ("300" in name or "150" in name):
        check(subject)
assert len(recomputed) >= 12 and all(recomputed), recomputed
"""


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
@pytest.mark.parametrize("name", HERE)
def test_backend_keeps_its_contract(name: str, dtype: torch.dtype) -> None:
    check_backend(name, dtypes=(dtype,))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", INTERPRETED)
def test_interpreted_backend_keeps_its_contract(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"the package {name} is not installed")
    program = f"import seqmlm.testing\nseqmlm.testing.check_backend({name!r})\n{RECOMPUTED}"
    folders = [str(REPOSITORY), str(REPOSITORY / "kernels"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
    }
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]


def test_every_registered_backend_is_checked() -> None:
    assert sorted(HERE + INTERPRETED) == sorted(BACKENDS)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_broken_backend_is_caught_by_the_check_that_looks_for_it(broken: Broken) -> None:
    subject = Subject(broken.backend(), torch.device("cpu"), torch.float32)
    expected = f"{broken.check}, torch.float32: .*{re.escape(broken.message)}"
    with pytest.raises(AssertionError, match=expected):
        checks()[broken.check](subject)


def test_check_backend_goes_through_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    names = list(checks())
    recorded = {name: lambda subject, name=name: seen.append(name) for name in names}
    monkeypatch.setattr(contract, "checks", lambda: recorded)
    check_backend("torch", dtypes=(torch.float32, torch.float64))
    assert seen == names * 2


def test_backend_that_cannot_run_is_no_broken_promise() -> None:
    def attention(*_: Any, **__: Any) -> Any:
        raise BackendUnavailableError("not here")

    backend: Any = SimpleNamespace(attention=attention)
    with pytest.raises(BackendUnavailableError, match="not here"):
        check_backend(backend)
