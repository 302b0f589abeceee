"""Every registered backend of the kernels is held to its contract."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmlm.testing import check_backend
from seqmlm_kernels import reference, torch_backend
from seqmlm_kernels.dispatch import BACKENDS

REPOSITORY = Path(__file__).parents[2]
EVERY_DTYPE = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
HERE = ("reference", "torch")
# Triton interprets only what is decorated under TRITON_INTERPRET: in a process of its own.
INTERPRETED = ("triton",)


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
@pytest.mark.parametrize("name", HERE)
def test_backend_keeps_its_contract(name: str, dtype: torch.dtype) -> None:
    check_backend(name, dtypes=(dtype,))


@pytest.mark.slow
@pytest.mark.parametrize("name", INTERPRETED)
def test_interpreted_backend_keeps_its_contract(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"the package {name} is not installed")
    program = f"import seqmlm.testing; seqmlm.testing.check_backend({name!r})"
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


def broken(**functions: Any) -> Any:
    """The torch backend with some functions replaced."""
    names = ("attention", "masked_cross_entropy", "masked_softmax", "token_log_likelihood")
    module: ModuleType = torch_backend
    whole = {name: getattr(module, name) for name in (*names, "top_k", "rotary")}
    return SimpleNamespace(**(whole | functions))


def without_window(*operands: Tensor, **arguments: Any) -> Tensor:
    return torch_backend.attention(*operands, **(arguments | {"window": None}))


def in_fp16(*operands: Tensor, **arguments: Any) -> Tensor:
    rounded = (x.half().to(x.dtype) for x in operands)
    return reference.attention(*rounded, **arguments)


def nearly_zero(scores: Tensor, allowed: Any) -> Tensor:
    return torch_backend.masked_softmax(scores, allowed) + 1e-12


def highest_id_first(*arguments: Any) -> tuple[Tensor, Tensor]:
    values, ids = torch_backend.top_k(*arguments)
    return values, ids.flip(1)


def off_a_little(*arguments: Any) -> tuple[Tensor, Tensor]:
    loss, log_normaliser = torch_backend.masked_cross_entropy(*arguments)
    return loss * 1.001, log_normaliser


@pytest.mark.parametrize(
    ("functions", "promise"),
    [
        ({"attention": without_window}, "attention, window"),
        ({"attention": in_fp16}, "attention, every pair"),
        ({"masked_softmax": nearly_zero}, "masked softmax"),
        ({"top_k": highest_id_first}, "top k"),
        ({"masked_cross_entropy": off_a_little}, "cross-entropy over every id"),
    ],
    ids=["window ignored", "rounded", "not exactly zero", "ids in the wrong order", "off a little"],
)
def test_broken_promise_is_found(functions: dict[str, Any], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_backend(broken(**functions))
