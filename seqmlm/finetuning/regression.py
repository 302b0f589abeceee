"""A measured value for each sequence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from seqmlm.data.report import ReadReport
from seqmlm.domain import Domain
from seqmlm.errors import DataError
from seqmlm.finetuning.plots import draw_regression
from seqmlm.finetuning.pooling import RowPooling, check_pooling, pooled_states
from seqmlm.finetuning.records import LabelledRecord, read_table
from seqmlm.finetuning.statistics import (
    FloatArray,
    IndexArray,
    regression_measures,
)
from seqmlm.finetuning.task import Example, Scores, Task
from seqmlm.model.output_head import Transform
from seqmlm.objectives.rows import LossSum, Row, Targets

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model


class Regression(Task[float, float]):
    """A number for each sequence, such as the stability or the fitness of a protein.

    The head learns standardised values, by the mean squared error; predictions are in the units
    of the data.

    Args:
        domain: reads the texts.
        text_column: of the data files.
        value_column: the same.
        group_column: what a held-out share must not divide; identical texts are kept together
            without one.
        pooling: ``mean`` over the tokens, or ``cls``, the first.
        transform: of the head.
    """

    name = "regression"
    selection = "spearman"

    def __init__(
        self, domain: Domain, *, text_column: str = "text", value_column: str = "value",
        group_column: str = "", pooling: RowPooling = "mean", transform: Transform = "none",
    ) -> None:  # fmt: skip
        check_pooling(pooling)
        options = {
            "text_column": text_column,
            "value_column": value_column,
            "group_column": group_column,
            "pooling": pooling,
        }
        super().__init__(domain, options=options, transform=transform)
        self._text_column, self._value_column = text_column, value_column
        self._group_column, self._pooling = group_column, pooling
        self._mean, self._deviation = 0.0, 1.0

    def read(self, path: str | Path, *, labelled: bool) -> list[LabelledRecord]:
        """Return the lines of a table; see :func:`read_table`."""
        value = {"value_column": self._value_column} if labelled else {}
        return read_table(path, {"text_column": self._text_column} | value)

    def record_of(self, item: Any) -> LabelledRecord:
        """Take a text."""
        return LabelledRecord({self._text_column: item}, "input", 1)

    def group_of(self, record: LabelledRecord) -> str:
        """Return the group, or the text itself."""
        return record.text(self._group_column or self._text_column)

    def learn(self, records: Sequence[LabelledRecord]) -> None:
        """Take over mean and standard deviation of the values."""
        values = [self._value(record) for record in records]
        self._mean, self._deviation = float(np.mean(values)), float(np.std(values))
        if self._deviation == 0:
            raise DataError(
                f"{records[0].place} and on: every value is {values[0]}; there is nothing to learn."
            )

    def state(self) -> dict[str, Any]:
        """Return mean and standard deviation of the training values."""
        return {"mean": self._mean, "standard_deviation": self._deviation}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over mean and standard deviation."""
        self._mean, self._deviation = state["mean"], state["standard_deviation"]

    @property
    def outputs(self) -> int:
        """One number."""
        return 1

    def encode(
        self, record: LabelledRecord, *, max_length: int, report: ReadReport
    ) -> Example[float]:
        """Return one row whose first token carries the standardised value."""
        encoding = self.parse(record, record.text(self._text_column))
        encoding = self.shorten(record, encoding, max_length, report)
        truth = None
        if record.fields.get(self._value_column) not in (None, ""):
            truth = self._value(record)
        nowhere = np.zeros(1, np.int32)
        standardised = ((truth or 0.0) - self._mean) / self._deviation
        targets = Targets(nowhere, nowhere, values=np.array([standardised], np.float32))
        return Example(record, (Row.of(encoding, targets={self.name: targets}),), truth)

    def asked_in(self, row: Row) -> int:
        """One state a row."""
        return 1

    def logits(self, model: Model, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """Return the standardised values, ``[rows, 1]``."""
        states = pooled_states(
            hidden, batch, pooling=self._pooling, special=model.vocabulary.special
        )
        return self.head(model)(states).float()  # type: ignore[no-any-return]

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed squared error, in squared standard deviations of the values."""
        predicted = self.logits(model, hidden, batch)[:, 0]
        values = batch.targets_for(self.name).values
        true = predicted.detach() if values is None else values
        total = ((predicted - true) ** 2).sum()
        return LossSum(total, total.new_tensor(float(len(predicted))))

    def answer(self, example: Example[float], scores: Sequence[Scores]) -> float:
        """Return the value in the units of the data."""
        return float(scores[0][0, 0]) * self._deviation + self._mean

    def measures(
        self, examples: Sequence[Example[float]], answers: Sequence[float]
    ) -> Callable[[IndexArray], dict[str, float]]:
        """Correlations, and the error in the units of the data."""
        true, predicted = _pairs(examples, answers)
        return lambda chosen: regression_measures(true[chosen], predicted[chosen])

    def bars(self, examples: Sequence[Example[float]]) -> dict[str, float]:
        """Return the error of the mean of the training values."""
        true, mean = _pairs(examples, [self._mean] * len(examples))
        return {"rmse of the training mean": regression_measures(true, mean)["rmse"]}

    def columns(self, example: Example[float], answer: float) -> list[dict[str, Any]]:
        """Return the value."""
        return [{"prediction": float(f"{answer:.6g}")}]

    def draw(
        self, examples: Sequence[Example[float]], answers: Sequence[float], folder: Path
    ) -> list[Path]:
        """Draw predicted over true values."""
        return draw_regression(*_pairs(examples, answers), folder / "regression.png")

    def _value(self, record: LabelledRecord) -> float:
        text = record.text(self._value_column)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(
                f"{record.place}: {self._value_column} is {text!r}; a finite number is needed."
            )
        return value


def _pairs(
    examples: Sequence[Example[float]], answers: Sequence[float]
) -> tuple[FloatArray, FloatArray]:
    true = [example.truth for example in examples]
    return np.array(true, np.float64), np.array(answers, np.float64)
