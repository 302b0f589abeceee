"""What the GPU's proof of correctness launches, as for an H200, with kernels that do nothing.

Run as a module with a dtype, it prints JSON: the branches that were taken, and how many kernels
Triton would compile. It runs as ``python -O``: without assertions, which would end each check of
the contract at the first result that no kernel computed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu import branches, correctness
from benchmarks.gpu.session import Session
from seqmlm_kernels import contract
from seqmlm_kernels.dispatch import select_backend
from seqmlm_kernels.triton import projection_launch, top_k

# Only a GPU compiles and replays.
BY_A_GPU = (
    *(branches.COMPILED, branches.COMPILED_LOSS),
    *(branches.REPLAYED, branches.REPLAYED_LOSS),
)


class OnCpu(Session):
    """All that a run on a GPU would do, with tensors that are not there."""

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")


def do_nothing(kernel: Any, *arguments: Any, **_: Any) -> None:
    """A launch whose results are what was in memory, but for ids: they are used as indices."""
    for name, value in zip(kernel.arg_names, arguments, strict=False):
        if name == "ids_ptr" and isinstance(value, Tensor):
            value.zero_()


def record_checks(dtype: torch.dtype, path: Path) -> branches.Launches:
    """What all checks of a dtype launch; this process can launch nothing afterwards."""
    every = branches.Launches()
    interface: Any = type(next(iter(branches.kernels().values())))
    interface.run = do_nothing
    for module in (projection_launch, top_k):
        vars(module).update(INTERPRETED=False, multiprocessors_of=lambda device: 132)

    def compare(session: Session, dtype: torch.dtype, comparison: correctness.Comparison) -> None:
        with branches.recorded() as launches, branches.products_in(comparison.precision):
            comparison.run()
        every.branches.update(launches.branches, comparison.ways)
        every.variants.update(launches.variants)

    def check_contract(session: Session, *, name: str, dtype: torch.dtype) -> None:
        subject = contract.Subject(select_backend("triton", session.device), session.device, dtype)
        with branches.recorded() as launches:
            contract.checks()[name](subject)
        every.variants.update(launches.variants)

    vars(correctness).update(compare=compare, check_contract=check_contract)
    session = OnCpu(path, is_rehearsal=False)
    for name, piece in correctness.pieces([dtype], is_rehearsal=False):
        # Scores of 16,500 predictions are a minute of a CPU's time, and of no other branch.
        is_large = "M 16,500" in name and "materialised" in name
        if not is_large and not any(way in name for way in BY_A_GPU):
            piece(session)
    return every


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = record_checks(getattr(torch, sys.argv[1]), Path(folder) / "part.json")
    print(json.dumps({"branches": sorted(found.branches), "num_compiled": len(found.variants)}))
