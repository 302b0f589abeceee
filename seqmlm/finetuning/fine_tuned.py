"""A fine-tuned model at work: predictions for texts and for files."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seqmlm.data.report import ReadReport
from seqmlm.errors import DataError
from seqmlm.finetuning.model_file import read_task
from seqmlm.finetuning.prediction_file import write_predictions
from seqmlm.finetuning.statistics import Evaluation
from seqmlm.finetuning.task import Task, predict
from seqmlm.finetuning.workload import encode_part
from seqmlm.model.model import Model
from seqmlm.randomness import Purpose, stream


@dataclass(frozen=True)
class FilePredictions:
    """What became of a file.

    Args:
        report: read, predicted and left out items.
        evaluation: of the items with labels; None if none has, or if it was not asked for.
    """

    report: ReadReport
    evaluation: Evaluation | None


@dataclass(frozen=True)
class FineTunedModel:
    """A model with a labelled task.

    Args:
        model: encoder and heads.
        task: what the head is asked.
        max_length: tokens per row, special tokens included.
    """

    model: Model
    task: Task[Any, Any]
    max_length: int

    @classmethod
    def load(
        cls, path: str | Path, *, device: str | torch.device = "cpu", backend: str = "auto"
    ) -> FineTunedModel:
        """Read a fine-tuning run's folder, or its ``model`` folder.

        Raises:
            CheckpointError: there is no model, it is damaged, or it has no task.
        """
        model = Model.load(path, device=device, backend=backend)
        task, max_length = read_task(Path(path), model.domain)
        return cls(model, task, max_length)

    def predict(self, items: Sequence[Any], *, tokens_per_batch: int = 8192) -> list[Any]:
        """Return an answer for each item, in order.

        Args:
            items: texts; for ``tokens`` also lists of words; for ``pairs`` two texts each; for
                ``qa`` question and context; for ``ranking`` a query and a list of candidates.
            tokens_per_batch: bounds the memory; results do not depend on it.

        Raises:
            DataError: an item cannot be encoded, or a single text is given for all items.
        """
        if isinstance(items, str):
            raise DataError(f"items = {reprlib.repr(items)} is one text; give a list of items.")
        report = ReadReport()
        examples = [
            self.task.encode(self.task.record_of(item), max_length=self.max_length, report=report)
            for item in items
        ]
        return predict(self.model, self.task, examples, tokens_per_batch=tokens_per_batch)[0]

    def predict_file(
        self,
        path: str | Path,
        output: Path,
        *,
        evaluate: bool = False,
        tokens_per_batch: int = 8192,
        seed: int = 0,
    ) -> FilePredictions:
        """Write a prediction beside each line of a file; see :func:`write_predictions`.

        Args:
            path: in the format that the task was trained on; labels may be missing.
            output: ``.csv`` or ``.jsonl``.
            evaluate: whether the labels must be there, and are compared with.
            tokens_per_batch: bounds the memory; results do not depend on it.
            seed: of the bootstrap.

        Raises:
            DataError: the file cannot be used.
            ConfigError: ``output`` cannot be written.
        """
        records = self.task.read(path, labelled=evaluate)
        part = encode_part(self.task, records, max_length=self.max_length, labelled=evaluate)
        examples = [example for _, example in part.examples]
        answers, _ = predict(self.model, self.task, examples, tokens_per_batch=tokens_per_batch)
        write_predictions(output, self.task, part, answers)
        if not evaluate:
            return FilePredictions(part.report, None)
        examples, answers = part.judged(answers)
        if not examples:
            raise DataError(f"{path}: no item can be judged ({part.report.summary()}).")
        generator = stream(seed, Purpose.EVALUATION)
        return FilePredictions(part.report, self.task.evaluate(examples, answers, generator))
