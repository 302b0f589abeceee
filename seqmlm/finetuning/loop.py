"""The loop of fine-tuning: epochs of steps, the best epoch kept, predictions and pictures."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from safetensors.torch import load_file

from seqmlm.atomic_files import write_file
from seqmlm.data.packing import PackedBatch
from seqmlm.errors import RunFolderError
from seqmlm.finetuning.model_file import write_task
from seqmlm.finetuning.plots import draw_learning_curve
from seqmlm.finetuning.prediction_file import write_predictions
from seqmlm.finetuning.settings import FineTuningConfig
from seqmlm.finetuning.statistics import Evaluation
from seqmlm.finetuning.task import Example, predict
from seqmlm.finetuning.workload import FineTuningWorkload, prepare_finetuning
from seqmlm.randomness import Purpose, stream
from seqmlm.readable import readable
from seqmlm.training.checkpoint import TrainingState
from seqmlm.training.display import Display
from seqmlm.training.distributed import processes
from seqmlm.training.loop import open_run_folder
from seqmlm.training.optimizer import learning_rate
from seqmlm.training.progress import RunProgress
from seqmlm.training.run_folder import RunFolder
from seqmlm.training.run_log import log_file, log_level
from seqmlm.training.signals import StopSignals

PREDICTION_TOKENS_PER_BATCH = 8192
"""Bounds the memory; results do not depend on it."""

logger = logging.getLogger("seqmlm")


@dataclass(frozen=True)
class FineTuningResult:
    """What a finished run leaves.

    Args:
        folder: of the run; :meth:`FineTunedModel.load` and ``seqmlm.load`` read it.
        best_epoch: whose weights were kept, counted from 1.
        evaluations: of those weights, for ``validation`` and ``test``, where there are any;
            empty on ranks other than the first.
        plots: PNG files written.
    """

    folder: Path
    best_epoch: int
    evaluations: Mapping[str, Evaluation]
    plots: list[Path]


def finetune(
    config: FineTuningConfig,
    output: str | Path,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> FineTuningResult:
    """Perform one fine-tuning run, or go on with one.

    The folder gets the model of the best epoch, its task, predictions for the held-out data,
    measures and pictures. The same configuration gives the same numbers on the same kind of
    machine; resuming is bit-identical to never having stopped.

    Args:
        config: every choice of the run.
        output: the run's folder; absent or empty unless ``resume``.
        resume: go on from the newest intact checkpoint in ``output``, if there is one.
        console: where progress goes; None is silent.

    Raises:
        ConfigError: settings do not fit one another, the model or this machine.
        DataError: the data cannot be used.
        RunFolderError: the folder is in use, not empty or not writable.
        CheckpointError: there is no trained model, or no intact checkpoint of this run.
        TrainingError: loss or gradient were not finite several times in a row.
        RunStopped: SIGTERM or SIGINT; the state is saved.
    """
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        group = stack.enter_context(processes(config.training.device))
        stack.enter_context(log_level(logging.INFO if group.is_main else logging.WARNING))
        folder = stack.enter_context(open_run_folder(Path(output), resume=resume, processes=group))
        if resume and folder.model_path.exists():
            raise RunFolderError(
                f"{output} has finished: there is nothing to go on with. Start a new run in "
                "another folder."
            )
        work = prepare_finetuning(config, group)
        run = FineTuningRun(work, folder, signals, console if group.is_main else None)
        if group.is_main:
            stack.enter_context(log_file(folder.log_path))
        if resume:
            run.restore()
        if group.is_main:
            write_file(folder.config_path, config.resolved().to_toml(), error=RunFolderError)
            folder.write_environment()
            for line in work.describe():
                logger.info(line)
        return run.train()


@dataclass(frozen=True)
class Best:
    """The best epoch so far: the highest score, of equal ones the lowest loss, then the first.

    Args:
        epoch: counted from 1; 0 before the first.
        score: of it; minus infinity if it could not be measured.
        loss: of it.
        last_epoch: the last that was compared.
    """

    epoch: int = 0
    score: float = -math.inf
    loss: float = math.inf
    last_epoch: int = 0

    def after(self, epoch: int, score: float | None, loss: float | None) -> Best:
        """Compare one more epoch; what is not a number is worse than any."""
        known = -math.inf if score is None or math.isnan(score) else score
        known_loss = math.inf if loss is None or math.isnan(loss) else loss
        if not self.epoch or (known, -known_loss) > (self.score, -self.loss):
            return Best(epoch, known, known_loss, epoch)
        return dataclasses.replace(self, last_epoch=epoch)


class FineTuningRun:
    """The state of one fine-tuning run between steps, and what happens there."""

    def __init__(
        self,
        work: FineTuningWorkload,
        folder: RunFolder,
        signals: StopSignals,
        console: Console | None,
    ) -> None:
        self.work, self.folder, self.signals, self.console = work, folder, signals, console
        self._progress = RunProgress(
            TrainingState.at_start(work.config.model_dump(mode="json"), work.identity),
            folder=folder,
            processes=work.processes,
            model=work.model,
            optimizer=work.stepper.optimizer,
            keep_checkpoints=1,
            non_finite_limit=work.config.training.non_finite_limit,
            resume_command=f"seqmlm finetune {work.config.model} --resume --output {folder.path}",
        )
        self._best = Best()

    @property
    def state(self) -> TrainingState:
        """Where the run stands."""
        return self._progress.state

    @property
    def best_path(self) -> Path:
        """Folder of the best epoch's model until the run is finished."""
        return self.folder.path / "best"

    def train(self) -> FineTuningResult:
        """Train from the current state to the last epoch, then evaluate and export."""
        display = Display(
            steps=self.work.steps, done=self.state.step,
            every=self.work.config.training.log_every, console=self.console,
        )  # fmt: skip
        with display:
            for epoch in range(self.state.epoch, self.work.config.training.epochs):
                done = self.state.batch if epoch == self.state.epoch else 0
                for number, micro_batches in enumerate(self.work.batches(epoch), start=1):
                    if number > done:
                        self._step(epoch, number, micro_batches, display)
                        self._progress.stop_if_asked(self.signals)
                if self._best.last_epoch < epoch + 1:
                    self._end_epoch(epoch + 1)
        return self._finish()

    def restore(self) -> None:
        """Take over the newest intact checkpoint, if there is one.

        Raises:
            CheckpointError: it belongs to another run, or none is intact.
        """
        self._progress.restore()
        self.work.processes.wait_for_main()
        if self.folder.metrics_path.exists():
            for line in map(json.loads, self.folder.metrics_path.read_text().splitlines()):
                if line["split"] == "validation":
                    self._best = self._best.after(
                        line["epoch"], line[self.work.task.selection], line["loss"]
                    )

    def _step(
        self, epoch: int, number: int, micro_batches: list[PackedBatch], display: Display
    ) -> None:
        started = time.perf_counter()
        step = self.state.step + 1
        self.work.seed_modules(step)
        rate = learning_rate(step, self.work.optimizer, steps=self.work.steps)
        result = self.work.stepper.step(micro_batches, learning_rate=rate)
        seconds = time.perf_counter() - started
        self._progress.advance(result, epoch=epoch, batch=number, seconds=seconds)
        self._progress.check_finite(result)
        if step % self.work.config.training.log_every == 0 or step == self.work.steps:
            self._progress.record(
                "train", loss=result.loss, gradient_norm=result.gradient_norm,
                learning_rate=rate, epoch=epoch + 1,
            )  # fmt: skip
        display.step(step, loss=result.loss, tokens=result.tokens, seconds=seconds)

    def _end_epoch(self, epoch: int) -> None:
        """Measure the held-out part, keep the model if it is the best so far, save."""
        part = self.work.parts.get("validation")
        examples = part.with_truth() if part else []
        score, loss = float(epoch), math.nan  # with nothing held out, the last is taken
        if examples:
            answers, loss = self._predict(examples)
            metrics = self.work.task.measures(examples, answers)(np.arange(len(examples)))
            score = metrics[self.work.task.selection]
            self._progress.record("validation", loss=loss, **metrics, epoch=epoch)
            shown = [f"{name} {readable(value)}" for name, value in metrics.items()]
            logger.info("epoch %d: validation loss %s", epoch, "  ".join([readable(loss), *shown]))
        best = self._best.after(epoch, score, loss)
        if best.epoch == epoch and self.work.processes.is_main:
            self._keep()
        self._best = best
        self._progress.save()

    def _finish(self) -> FineTuningResult:
        """Judge the best model and leave it, with its predictions and pictures, in the folder."""
        work, folder = self.work, self.folder
        if not work.processes.is_main:
            return FineTuningResult(folder.path, self._best.epoch, {}, [])
        work.model.load_state_dict(load_file(self.best_path / "model.safetensors"))
        plots: list[Path] = []
        evaluations: dict[str, Evaluation] = {}
        for name in [name for name in work.parts if name != "train"]:
            found, pictures = self._judge(name)
            evaluations |= found
            plots += pictures
        bars = evaluations["validation"].bars if "validation" in evaluations else {}
        selection = work.task.selection
        plots += draw_learning_curve(
            folder.metrics_path,
            folder.plots_path / "learning_curve.png",
            selection=selection,
            best_epoch=self._best.epoch,
            bars={name: bar for name, bar in bars.items() if name.startswith(selection)},
        )
        self._export(evaluations)
        return FineTuningResult(folder.path, self._best.epoch, evaluations, plots)

    def _judge(self, name: str) -> tuple[dict[str, Evaluation], list[Path]]:
        """Predict one part to a file, and measure what has a truth."""
        task, part = self.work.task, self.work.parts[name]
        answers, _ = self._predict([example for _, example in part.examples])
        write_predictions(self.folder.path / f"predictions-{name}.csv", task, part, answers)
        examples, answers = part.judged(answers)
        if not examples:
            return {}, []
        generator = stream(self.work.config.training.seed, Purpose.EVALUATION)
        pictures = self.folder.plots_path / name
        pictures.mkdir(exist_ok=True)
        return (
            {name: task.evaluate(examples, answers, generator)},
            task.draw(examples, answers, pictures),
        )

    def _predict(self, examples: list[Example[Any]]) -> tuple[list[Any], float]:
        return predict(
            self.work.model, self.work.task, examples,
            tokens_per_batch=PREDICTION_TOKENS_PER_BATCH,
        )  # fmt: skip

    def _keep(self) -> None:
        """Make the present weights the best."""
        self.work.model.save(self.best_path)
        write_task(self.best_path, self.work.task, max_length=self.work.max_length)

    def _export(self, evaluations: Mapping[str, Evaluation]) -> None:
        """Write the evaluation; the best model becomes the run's."""
        content = {
            "task": self.work.task.name,
            "selection": self.work.task.selection,
            "best_epoch": self._best.epoch,
            "data": {name: part.report.to_json() for name, part in self.work.parts.items()},
            **{name: evaluation.to_json() for name, evaluation in evaluations.items()},
        }
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        write_file(self.folder.path / "evaluation.json", text, error=RunFolderError)
        self.best_path.rename(self.folder.model_path)
