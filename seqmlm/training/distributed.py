"""The processes of one run, as torchrun starts them; a single process needs no set-up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from seqmlm.errors import ConfigError

PREPARATION_TIMEOUT_S = 24 * 3600
"""How long the other ranks wait while the main one reads the data for the first time."""

TIMEOUT_S = 120
"""How long a rank waits for the others before the run ends; torch's own default is 30 minutes."""


@dataclass(frozen=True)
class Processes:
    """This process's place among those of the run.

    Args:
        rank: of this process, from 0.
        world_size: number of processes.
        device: where this process computes.
        patient_group: of all processes, for waits that may be long; None with one process.
    """

    rank: int
    world_size: int
    device: torch.device
    patient_group: dist.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over all processes; every process must call it."""
        if self.world_size == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    def concatenate(self, values: Tensor) -> Tensor:
        """Return what all processes hold, in their order, float32 ``[all]`` on the CPU.

        Args:
            values: float32 ``[n]`` of this process; n may differ.
        """
        if self.world_size == 1:
            return values
        sizes = torch.zeros(self.world_size, dtype=torch.int64, device=self.device)
        sizes[self.rank] = len(values)
        sizes = self.sum(sizes)
        start = int(sizes[: self.rank].sum())
        whole = torch.zeros(int(sizes.sum()), device=self.device)
        whole[start : start + len(values)] = values.to(self.device)
        return self.sum(whole).cpu()

    def any(self, value: int) -> int:
        """Return the largest of the processes' values: what one wants, all do."""
        if self.world_size == 1:
            return value
        largest = torch.tensor(value, device=self.device)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return int(largest)

    def wait_for_main(self) -> None:
        """Let no process go on before the main one has got here."""
        if self.world_size > 1:
            dist.barrier(group=self.patient_group)

    def parallelise(self, module: nn.Module) -> nn.Module:
        """Wrap a module so that its gradients are averaged over the processes."""
        if self.world_size == 1:
            return module
        return DistributedDataParallel(module)


def is_main_process() -> bool:
    """Whether this is the process that talks to the user; true outside torchrun."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the processes of this run; gloo on the CPU, nccl on GPUs.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; under torchrun each rank takes its own
            GPU.

    Raises:
        ConfigError: the device does not exist here.
    """
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if world_size == 1:
        yield Processes(0, 1, chosen)
        return
    dist.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo", timeout=timedelta(seconds=TIMEOUT_S)
    )
    try:
        patient_group = dist.new_group(
            backend="gloo", timeout=timedelta(seconds=PREPARATION_TIMEOUT_S)
        )
        yield Processes(rank, world_size, chosen, patient_group)
    finally:
        dist.destroy_process_group()


def choose_device(name: str, *, local_rank: int = 0) -> torch.device:
    """Return the device called ``name``; ``auto`` is a GPU if there is one.

    Raises:
        ConfigError: the name is not known, or the device does not exist here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"training.device = {name!r}: it is 'auto', 'cpu', 'cuda' or 'cuda:N'."
        ) from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = local_rank if device.index is None else device.index
        if index >= count:
            raise ConfigError(
                f"training.device = {name!r}: this machine has {count} usable CUDA device(s). "
                "Use --device cpu."
            )
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise ConfigError(f"training.device = {name!r}: it is 'auto', 'cpu', 'cuda' or 'cuda:N'.")
    return device
