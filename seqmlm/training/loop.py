"""The training loop: batches in, steps, evaluations and checkpoints out."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from rich.console import Console

from seqmlm.atomic_files import write_file
from seqmlm.config import RunConfig
from seqmlm.errors import RunFolderError
from seqmlm.masking.counts import MaskCounts
from seqmlm.training.announcement import describe
from seqmlm.training.checkpoint import TrainingState
from seqmlm.training.display import Display
from seqmlm.training.distributed import Processes, processes
from seqmlm.training.optimizer import learning_rate
from seqmlm.training.plots import plot_run
from seqmlm.training.progress import RunProgress, RunStopped
from seqmlm.training.result import TrainingResult
from seqmlm.training.run_folder import RunFolder
from seqmlm.training.run_log import log_file, log_level
from seqmlm.training.selection import ModelSelection
from seqmlm.training.signals import StopSignals
from seqmlm.training.step import StepResult
from seqmlm.training.validation import HeldOut, Validation
from seqmlm.training.workload import (
    Batch,
    Workload,
    keep_standard_input,
    prepare_workload,
)

logger = logging.getLogger("seqmlm")


def train(
    config: RunConfig,
    output: str | Path,
    *,
    resume: bool = False,
    allow_drift: Collection[str] = (),
    console: Console | None = None,
) -> TrainingResult:
    """Perform one run, or go on with one.

    Resuming is bit-identical to never having stopped, on the same kind of machine with the same
    torch version, thread count and number of processes.

    Args:
        config: every choice of the run.
        output: the run's folder; absent or empty unless ``resume``.
        resume: go on from the newest intact checkpoint in ``output``, or from the start if the
            run was stopped before its first one.
        allow_drift: keys of the run's identity that may differ from the checkpoint's.
        console: where progress goes; None is silent.

    Raises:
        ConfigError: settings do not fit one another or this machine.
        DataError: the data cannot be used.
        RunFolderError: the folder is in use, not empty or not writable.
        CheckpointError: there is no intact checkpoint, or it belongs to another run.
        TrainingError: loss or gradient were not finite several times in a row.
        RunStopped: SIGTERM or SIGINT; the state is saved.
    """
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        group = stack.enter_context(processes(config.training.device))
        stack.enter_context(log_level(logging.INFO if group.is_main else logging.WARNING))
        folder = stack.enter_context(open_run_folder(Path(output), resume=resume, processes=group))

        def check_stop(records: int, tokens: int) -> None:
            if signals.stop_requested is not None:
                raise RunStopped(signals.stop_requested, "stopped while reading the data")

        # Nothing is written before data and checkpoint are known to be usable: a run refused
        # for a typing error can be started again in the same folder.
        config = keep_standard_input(config, folder.path, group)
        work = prepare_workload(
            config,
            group,
            on_progress=check_stop,
            has_checkpoint=resume and any(folder.checkpoints_path.glob("step-*")),
        )
        run = TrainingRun(work, folder, signals, console if group.is_main else None)
        if group.is_main:
            stack.enter_context(log_file(folder.log_path))
        if resume:
            run.restore(allow_drift)
        if group.is_main:
            write_file(folder.config_path, work.config.to_toml(), error=RunFolderError)
            write_file(folder.path / "data.json", work.data_record(), error=RunFolderError)
            folder.write_environment()
            if work.warm_start is not None:
                content = json.dumps(work.warm_start.to_json(), indent=1) + "\n"
                write_file(folder.path / "warm_start.json", content, error=RunFolderError)
        try:
            return run.train()
        except RunStopped as stop:
            run.write_status("stopped", exit_code=stop.exit_code)
            raise
        except BaseException as error:
            run.write_status("failed", exit_code=getattr(error, "exit_code", 1))
            raise


class TrainingRun:
    """The state of one run between steps, and what happens there."""

    def __init__(
        self, work: Workload, folder: RunFolder, signals: StopSignals, console: Console | None
    ) -> None:
        self.work, self.folder, self.signals, self.console = work, folder, signals, console
        self._progress = RunProgress(
            TrainingState.at_start(work.config.model_dump(mode="json"), work.identity()),
            folder=folder,
            processes=work.processes,
            model=work.model,
            optimizer=work.stepper.optimizer,
            keep_checkpoints=work.config.training.keep_checkpoints,
            non_finite_limit=work.config.training.non_finite_limit,
            resume_command=f"seqmlm train --resume --output {folder.path}",
        )
        self._held_out = HeldOut(work)
        self._selection = ModelSelection(work, folder)
        self._validated_step: int | None = None
        self._judged: set[str] = set()

    @property
    def state(self) -> TrainingState:
        """Where the run stands."""
        return self._progress.state

    def train(self) -> TrainingResult:
        """Train from the current state to the last step, then evaluate and export."""
        settings = self.work.config.training
        self._announce()
        self.write_status("running")
        batches = self.work.batches(
            epoch=self.state.epoch, batch=self.state.batch, step=self.state.step
        )
        display = Display(
            steps=settings.steps, done=self.state.step, every=settings.log_every,
            console=self.console,
        )  # fmt: skip
        with display, closing(batches):
            self._evaluate_if_due()  # a stop may have cut this step's evaluation short
            self._progress.stop_if_asked(self.signals)
            while self.state.step < settings.steps and not self._selection.is_spent:
                self._step(next(batches), display)
                self._evaluate_if_due()
                step = self.state.step
                if step % settings.checkpoint_every == 0 or self.signals.take_save_request():
                    self._save()
                self._progress.stop_if_asked(self.signals)
        if self.state.step < settings.steps:
            logger.info(
                "stopped after step %d: %d evaluations were no better than %s",
                self.state.step, settings.patience, self._selection.describe(),
            )  # fmt: skip
        self._save()
        return self._finish()

    def restore(self, allow_drift: Collection[str]) -> None:
        """Take over the newest intact checkpoint, if there is one.

        Raises:
            CheckpointError: it belongs to another run, or none is intact.
        """
        self._progress.restore(allow_drift=allow_drift)
        self._selection = ModelSelection(self.work, self.folder, self.state.selection)
        if self.work.processes.is_main:
            self._validated_step = self.folder.last_step("validation")

    def write_status(self, status: str, *, exit_code: int | None = None) -> None:
        """Record in ``status.json`` how far the run is, and how it ended."""
        if self.work.processes.is_main:
            content = {"status": status, "step": self.state.step, "exit_code": exit_code}
            write_file(
                self.folder.path / "status.json", json.dumps(content) + "\n", error=RunFolderError
            )

    def _step(self, batch: Batch, display: Display) -> None:
        settings = self.work.config
        started = time.perf_counter()
        step = self.state.step + 1
        self.work.seed_modules(step)
        rate = learning_rate(step, settings.optimizer, steps=settings.training.steps)
        result = self.work.stepper.step(batch.micro_batches, learning_rate=rate)
        seconds = time.perf_counter() - started
        self._progress.advance(result, epoch=batch.epoch, batch=batch.number, seconds=seconds)
        self._check_finite(batch, result)
        is_last = step == settings.training.steps
        if step % settings.training.log_every == 0 or is_last:
            if rejected := self.work.stepper.take_rejected_targets():
                logger.warning("%d targets could not be predicted where they stood", rejected)
            self._progress.record(
                "train",
                loss=result.loss,
                **({"losses": result.losses} if result.losses else {}),
                gradient_norm=result.gradient_norm,
                learning_rate=rate,
                epoch=batch.epoch,
                **({"masking": self.state.masking} if is_last and self.state.masking else {}),
            )
            self._warn_of_missing_targets(self.state.masking.keys() - self._judged)
        display.step(step, loss=result.loss, tokens=result.tokens, seconds=seconds)

    def _warn_of_missing_targets(self, objectives: Iterable[str]) -> None:
        for name in sorted(objectives):
            warning = MaskCounts(**self.state.masking[name]).warning()
            if warning and self.work.processes.is_main:
                logger.warning("objective %s: %s", name, warning)
            self._judged.add(name)

    def _check_finite(self, batch: Batch, result: StepResult) -> None:
        """List the records of a step that was skipped; too many in a row end the run."""
        dump = self.folder.path / f"non-finite-step-{self.state.step:08d}.json"
        if not result.is_finite and self.work.processes.is_main:
            content = {
                "step": self.state.step,
                "epoch": batch.epoch,
                "batch": batch.number,
                "records": batch.records.tolist(),
                "loss": str(result.loss),
                "gradient_norm": str(result.gradient_norm),
            }
            write_file(dump, json.dumps(content, indent=1), error=RunFolderError)
        self._progress.check_finite(result, records=dump)

    def _evaluate_if_due(self) -> None:
        settings, step = self.work.config.training, self.state.step
        if 0 < step < settings.steps and step % settings.evaluate_every == 0:
            self._evaluate()

    def _evaluate(self) -> Validation | None:
        """Measure the model on held-out records; None without any, or if stopped by a signal."""
        found = self._held_out.measure(lambda: self.signals.stop_requested is not None)
        if found is None:
            return None
        if self.state.step != self._validated_step:
            self._progress.record("validation", **found.metrics())
            self._validated_step = self.state.step
        self._selection.consider(self.state.step, found)
        self._progress.state = dataclasses.replace(self.state, selection=self._selection.state)
        if self.work.processes.is_main:
            logger.info("step %d: validation %s", self.state.step, self._held_out.describe(found))
        return found

    def _finish(self) -> TrainingResult:
        found = self._evaluate()
        self._progress.stop_if_asked(self.signals)
        if self._selection.restore_best(self.state.step):
            found = self._held_out.measure(lambda: False)
        if not self.work.processes.is_main:
            return TrainingResult(self.folder.path, None, [])
        self.work.model.save(self.folder.model_path)
        for name, counts in self.state.masking.items():
            logger.info("%s: %s", name, MaskCounts(**counts).describe())
        self._warn_of_missing_targets(self.state.masking)
        report = None
        if found is not None and found.tokens is not None and found.tokens.targets:
            report = self._held_out.report(found.tokens)
        plots = plot_run(
            self.folder.metrics_path,
            self.folder.plots_path,
            bars={} if report is None else {name: bar.loss for name, bar in report.bars.items()},
            loss_label=self.work.stepper.loss_label,
        )
        result = TrainingResult(self.folder.path, report, plots)
        if found is not None:
            result = dataclasses.replace(
                result, objectives=found.objectives, measures=found.measures
            )
        if result.evaluation is not None:
            write_file(
                self.folder.path / "evaluation.json",
                json.dumps(result.evaluation, indent=1) + "\n",
                error=RunFolderError,
            )
        self.write_status("finished", exit_code=0)
        return result

    def _save(self) -> None:
        if self._progress.save():
            self._selection.discard_older()

    def _announce(self) -> None:
        """Say what is about to be trained on what."""
        for line in describe(self.work):
            logger.info(line)


@contextmanager
def open_run_folder(path: Path, *, resume: bool, processes: Processes) -> Iterator[RunFolder]:
    """The main process opens and locks the folder; the others only know where it is."""
    if processes.is_main:
        with RunFolder.resume(path) if resume else RunFolder.create(path) as folder:
            processes.wait_for_main()
            yield folder
    else:
        processes.wait_for_main()
        yield RunFolder.unlocked(path)
