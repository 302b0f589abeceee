"""Which of its evaluated models a run exports, and when it stops looking for a better one."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from seqmlm.atomic_files import make_directory, write_file
from seqmlm.errors import CheckpointError
from seqmlm.training.restore import restore_model
from seqmlm.training.run_folder import RunFolder
from seqmlm.training.validation import Validation
from seqmlm.training.workload import Workload

logger = logging.getLogger("seqmlm")


@dataclass(frozen=True, slots=True)
class Selection:
    """Outcome of the evaluations of a run so far.

    Args:
        best_step: step of the best evaluation; 0 before the first.
        best_value: what it was judged by, higher is better.
        last_step: step of the newest evaluation.
        since_best: evaluations after the best one, without those while the learning rate rises.
        sha256: of the file of the best weights, known to the process that wrote it.
    """

    best_step: int = 0
    best_value: float = 0.0
    last_step: int = 0
    since_best: int = 0
    sha256: str = ""

    def after(self, step: int, value: float, *, counts: bool = True) -> Selection:
        """Return the outcome with one more evaluation; a value that is no number is no better.

        Args:
            step: of the evaluation.
            value: what it was judged by.
            counts: whether it tries patience if it is no better.
        """
        if not math.isnan(value) and (self.best_step == 0 or value > self.best_value):
            return replace(self, best_step=step, best_value=value, last_step=step, since_best=0)
        return replace(self, last_step=step, since_best=self.since_best + counts)


class ModelSelection:
    """Judges the evaluations of a run and keeps the weights of the best one.

    The domain's own measure judges if it has one, else the validation loss. The main process
    judges; the others learn the value from it and so come to the same decision.

    Args:
        work: of the run.
        folder: of the run; the weights lie in ``best/``.
        saved: what :attr:`state` was when the run was stopped; empty in a new run.
    """

    def __init__(
        self, work: Workload, folder: RunFolder, saved: Mapping[str, Any] | None = None
    ) -> None:
        self._work, self._folder = work, folder
        self._now = Selection(**(saved or {}))

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, JSON types only."""
        return asdict(self._now)

    @property
    def is_spent(self) -> bool:
        """Whether ``training.patience`` evaluations in a row were no better than the best."""
        return 0 < self._work.config.training.patience <= self._now.since_best

    def consider(self, step: int, found: Validation) -> None:
        """Take an evaluation into account; every process must call it, again does no harm."""
        if step == self._now.last_step:
            return
        # While the learning rate rises, a model may get worse before it gets better.
        is_warm = step > self._work.config.optimizer.warmup_steps
        self._now = self._now.after(step, self._value(found), counts=is_warm)
        if self._now.best_step == step and self._work.config.training.select == "best":
            self._now = replace(self._now, sha256=self._keep_weights())

    def discard_older(self) -> None:
        """Delete the weights of models that were the best once; for the main process.

        Not before a checkpoint names the present best: an older checkpoint may be resumed, and
        finds its own best, or makes the later one again.
        """
        for path in self._folder.best_path.glob("step-*.safetensors"):
            if path != self._path:
                path.unlink()

    def restore_best(self, step: int) -> bool:
        """Give the model the weights of the best evaluation, if it is not that of ``step``.

        Returns:
            Whether the weights have changed.

        Raises:
            CheckpointError: they are missing or damaged.
        """
        best = self._now.best_step
        if self._work.config.training.select == "last" or best in (0, step):
            return False
        self._work.processes.wait_for_main()
        try:
            content = self._path.read_bytes()
            if self._now.sha256 not in ("", hashlib.sha256(content).hexdigest()):
                raise CheckpointError(
                    f"{self._path} is damaged: its sha256 is not the recorded one."
                )
            restore_model(self._work.model.state_dict(), load(content))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{self._path}, the best model of this run, cannot be loaded: {error}. Restore it, "
                "or resume with --set training.select=last."
            ) from error
        logger.info("the model of step %d is exported: %s", best, self.describe())
        return True

    def describe(self) -> str:
        """Return the best evaluation for people."""
        name, value = self._work.domain.selection_measure, self._now.best_value
        return f"{name} {value:.4f}" if name else f"validation loss {-value:.4f} nats"

    def _value(self, found: Validation) -> float:
        """What the main process judges an evaluation by, on every process."""
        group = self._work.processes
        value = 0.0
        if group.is_main:
            name = self._work.domain.selection_measure
            value = found.measures[name] if name else -found.loss
        group.wait_for_main()
        return float(group.sum(torch.tensor(value, dtype=torch.float64, device=group.device)))

    def _keep_weights(self) -> str:
        """Write the weights of the model as it is; returns the sha256 on the main process."""
        if not self._work.processes.is_main:
            return ""
        make_directory(self._folder.best_path)
        state = self._work.model.state_dict()
        content = save({name: tensor.contiguous() for name, tensor in state.items()})
        write_file(self._path, content)
        return hashlib.sha256(content).hexdigest()

    @property
    def _path(self) -> Path:
        return self._folder.best_path / f"step-{self._now.best_step:08d}.safetensors"
