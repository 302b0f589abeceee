"""How far a run is: its state in memory, in the metrics and the checkpoints of its folder."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from seqmlm.errors import SeqmlmError, TrainingError
from seqmlm.masking.counts import add_counts
from seqmlm.training import checkpoint
from seqmlm.training.checkpoint import TrainingState
from seqmlm.training.distributed import Processes
from seqmlm.training.restore import (
    check_identity,
    optimizer_tensors,
    restore_model,
    restore_optimizer,
)
from seqmlm.training.run_folder import RunFolder
from seqmlm.training.signals import StopSignals
from seqmlm.training.step import StepResult

logger = logging.getLogger("seqmlm")


class RunStopped(SeqmlmError):
    """A signal ended the run early, after its checkpoint was written."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RunProgress:
    """What every loop that trains counts, saves and takes up again; the main process writes.

    Args:
        state: before the first step.
        folder: of the run.
        processes: of the run.
        model: that is trained.
        optimizer: of its parameters.
        keep_checkpoints: how many stay, the newest.
        non_finite_limit: steps in a row without a finite loss and gradient that end the run.
        resume_command: that goes on with the run, for people.
    """

    def __init__(
        self,
        state: TrainingState,
        *,
        folder: RunFolder,
        processes: Processes,
        model: nn.Module,
        optimizer: Optimizer,
        keep_checkpoints: int,
        non_finite_limit: int,
        resume_command: str,
    ) -> None:
        self.state = state
        self._folder, self._processes = folder, processes
        self._model, self._optimizer = model, optimizer
        self._keep_checkpoints, self._non_finite_limit = keep_checkpoints, non_finite_limit
        self._resume_command = resume_command
        self._saved_step = 0
        self._failures_in_a_row = 0

    def restore(self, *, allow_drift: Collection[str] = ()) -> None:
        """Take over the newest intact checkpoint, if there is one, and forget what came after it.

        Args:
            allow_drift: keys of the run's identity that may differ from the checkpoint's.

        Raises:
            CheckpointError: it belongs to another run, or none is intact.
        """
        found = checkpoint.load_newest(self._folder.checkpoints_path)
        if found is None:
            logger.info("no checkpoint yet in %s: starting at step 0", self._folder.path)
        else:
            # Another thread count changes the last digits of sums, no more: a warning is enough.
            allow = {*allow_drift, "threads"}
            check_identity(found.state.identity, self.state.identity, allow=allow)
            restore_model(self._model.state_dict(), found.model)
            parameters = self._model.named_parameters()
            restore_optimizer(self._optimizer, parameters, found.optimizer)
            self.state = dataclasses.replace(
                found.state, config=self.state.config, identity=self.state.identity
            )
            self._saved_step = self.state.step
            logger.info("resuming after step %d (%s)", self.state.step, found.path)
        if self._processes.is_main:
            self._folder.truncate_metrics(after_step=self.state.step)

    def advance(self, result: StepResult, *, epoch: int, batch: int, seconds: float) -> None:
        """Count one more step.

        Args:
            result: of the step.
            epoch: that its batch belongs to, from 0.
            batch: number of it within the epoch, from 1.
            seconds: that the step took.
        """
        self.state = dataclasses.replace(
            self.state,
            step=self.state.step + 1,
            epoch=epoch,
            batch=batch,
            tokens=self.state.tokens + result.tokens,
            seconds=self.state.seconds + seconds,
            masking=add_counts(self.state.masking, result.masking),
        )

    def check_finite(self, result: StepResult, *, records: Path | None = None) -> None:
        """Report a step that changed nothing, as its loss or gradient is not finite.

        Args:
            result: of the step that was counted last.
            records: file that lists the records of the step.

        Raises:
            TrainingError: that were too many in a row.
        """
        if result.is_finite:
            self._failures_in_a_row = 0
            return
        self._failures_in_a_row += 1
        step, limit = self.state.step, self._non_finite_limit
        listed = "" if records is None else f"; its records are listed in {records.name}"
        logger.warning(
            "step %d skipped: loss %s, gradient norm %s%s",
            step, result.loss, result.gradient_norm, listed,
        )  # fmt: skip
        if self._failures_in_a_row >= limit:
            listed = "" if records is None else f" The records are listed in {records}."
            raise TrainingError(
                f"Loss or gradient were not finite {limit} times in a row, the last at step "
                f"{step}; the weights are as before the first. Try a lower "
                f"optimizer.learning_rate or training.precision = 'float32'.{listed}"
            )

    def record(self, split: str, **values: Any) -> None:
        """Add a line to the metrics.

        Args:
            split: what was measured: ``train`` or ``validation``.
            values: by name, JSON types only.
        """
        if self._processes.is_main:
            self._folder.append_metrics(
                {
                    "step": self.state.step,
                    "split": split,
                    **values,
                    "tokens": self.state.tokens,
                    "seconds": round(self.state.seconds, 3),
                }
            )

    def save(self) -> bool:
        """Write a checkpoint of the current step, unless there is one.

        Returns:
            Whether this process has written it.
        """
        if self.state.step == self._saved_step:
            return False
        self._saved_step = self.state.step
        if not self._processes.is_main:
            return False
        checkpoint.save(
            self._folder.checkpoints_path,
            self.state,
            model=self._model.state_dict(),
            optimizer=optimizer_tensors(self._optimizer, self._model.named_parameters()),
        )
        checkpoint.prune(self._folder.checkpoints_path, keep=self._keep_checkpoints)
        return True

    def stop_if_asked(self, signals: StopSignals) -> None:
        """Save and stop if a signal has reached any of the processes; all must call it.

        Raises:
            RunStopped: one has.
        """
        code = self._processes.any(signals.stop_requested or 0)
        if code:
            self.save()
            step = self.state.step
            where = (
                f"after step {step}; its checkpoint is saved" if step else "before the first step"
            )
            raise RunStopped(
                code, f"stopped by a signal {where}. Go on with: {self._resume_command}"
            )
