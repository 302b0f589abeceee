"""One label for a sequence, or for a pair of sequences."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from seqmlm.data.report import ReadReport
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.errors import DataError, suggestion
from seqmlm.finetuning.plots import draw_confusion
from seqmlm.finetuning.pooling import RowPooling, check_pooling, pooled_states
from seqmlm.finetuning.records import LabelledRecord, read_table
from seqmlm.finetuning.statistics import (
    IndexArray,
    classification_measures,
    confusion,
)
from seqmlm.finetuning.task import Example, Scores, Task
from seqmlm.model.output_head import Transform
from seqmlm.objectives.rows import LossSum, Row, Targets
from seqmlm.pairs import join_encodings

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model


@dataclass(frozen=True, slots=True)
class LabelAnswer:
    """A predicted label.

    Args:
        label: the most probable one.
        probability: of it, in [0, 1].
        probabilities: of all labels, which add up to 1.
    """

    label: str
    probability: float
    probabilities: Mapping[str, float]


class LabelTask(Task[int, LabelAnswer]):
    """What classifications of whole rows share; the truth is the number of the label.

    Args:
        domain: reads the texts.
        options: all settings of the task.
        label_column: of the data files.
        pooling: how a row becomes one state.
        transform: of the head.
    """

    selection = "accuracy"

    def __init__(
        self, domain: Domain, *, options: Mapping[str, Any], label_column: str,
        pooling: RowPooling, transform: Transform,
    ) -> None:  # fmt: skip
        check_pooling(pooling)
        settings = {"label_column": label_column, "pooling": pooling, **options}
        super().__init__(domain, options=settings, transform=transform)
        self._label_column, self._pooling = label_column, pooling
        self.labels: list[str] = []
        self._counts: dict[str, int] = {}

    @abstractmethod
    def text_columns(self) -> dict[str, str]:
        """Return the columns of the texts, by the option that names each."""

    @abstractmethod
    def encode_texts(self, record: LabelledRecord, max_length: int, report: ReadReport) -> Encoding:
        """Return the row's tokens."""

    def read(self, path: str | Path, *, labelled: bool) -> list[LabelledRecord]:
        """Return the lines of a table; see :func:`read_table`."""
        label = {"label_column": self._label_column} if labelled else {}
        return read_table(path, self.text_columns() | label)

    def learn(self, records: Sequence[LabelledRecord]) -> None:
        """Take over the labels, sorted, and how often each occurs."""
        counts = Counter(self._label(record) for record in records)
        if len(counts) < 2:
            raise DataError(
                f"{records[0].place} and on: all labels are {next(iter(counts))!r}. "
                "Classification needs two labels at least."
            )
        self.labels = sorted(counts)
        self._counts = {label: counts[label] for label in self.labels}

    def state(self) -> dict[str, Any]:
        """Return the labels and how often each occurs in the training data."""
        return {"labels": self._counts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the labels."""
        self._counts = dict(state["labels"])
        self.labels = list(self._counts)

    @property
    def outputs(self) -> int:
        """One for each label."""
        return len(self.labels)

    def encode(
        self, record: LabelledRecord, *, max_length: int, report: ReadReport
    ) -> Example[int]:
        """Return one row whose first token carries the label."""
        encoding = self.encode_texts(record, max_length, report)
        truth = None
        if record.fields.get(self._label_column) not in (None, ""):
            truth = self._number(record)
        label = np.array([truth or 0], np.int32)
        targets = Targets(np.zeros(1, np.int32), label)
        return Example(record, (Row.of(encoding, targets={self.name: targets}),), truth)

    def asked_in(self, row: Row) -> int:
        """One state a row."""
        return 1

    def logits(self, model: Model, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """Return the scores of the labels, ``[rows, labels]``."""
        states = pooled_states(
            hidden, batch, pooling=self._pooling, special=model.vocabulary.special
        )
        return self.head(model)(states).float()  # type: ignore[no-any-return]

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed cross-entropy of the labels, nats."""
        labels = batch.targets_for(self.name).labels
        logits = self.logits(model, hidden, batch)
        total = F.cross_entropy(logits, labels, reduction="sum")
        return LossSum(total, total.new_tensor(float(len(labels))))

    def answer(self, example: Example[int], scores: Sequence[Scores]) -> LabelAnswer:
        """Return the most probable label, and the probabilities of all."""
        shifted = np.exp(scores[0][0].astype(np.float64) - scores[0][0].max())
        probabilities = (shifted / shifted.sum()).tolist()
        best = int(np.argmax(probabilities))
        return LabelAnswer(
            self.labels[best],
            probabilities[best],
            dict(zip(self.labels, probabilities, strict=True)),
        )

    def measures(
        self, examples: Sequence[Example[int]], answers: Sequence[LabelAnswer]
    ) -> Callable[[IndexArray], dict[str, float]]:
        """Accuracy and macro-F1."""
        true, predicted = self._numbers(examples, answers)
        return lambda chosen: classification_measures(
            true[chosen], predicted[chosen], len(self.labels)
        )

    def bars(self, examples: Sequence[Example[int]]) -> dict[str, float]:
        """Return what the most frequent label of the training data reaches."""
        true = np.array([example.truth for example in examples], np.int64)
        majority = np.full_like(true, np.argmax(list(self._counts.values())))
        found = classification_measures(true, majority, len(self.labels))
        return {f"{name} of the most frequent label": value for name, value in found.items()}

    def details(
        self, examples: Sequence[Example[int]], answers: Sequence[LabelAnswer]
    ) -> dict[str, Any]:
        """Return the confusion matrix: a row for each true label."""
        table = confusion(*self._numbers(examples, answers), len(self.labels))
        return {"labels": self.labels, "confusion": table.tolist()}

    def columns(self, example: Example[int], answer: LabelAnswer) -> list[dict[str, Any]]:
        """Return the label and its probability."""
        return [{"prediction": answer.label, "probability": round(answer.probability, 6)}]

    def draw(
        self, examples: Sequence[Example[int]], answers: Sequence[LabelAnswer], folder: Path
    ) -> list[Path]:
        """Draw the confusion matrix."""
        true, predicted = self._numbers(examples, answers)
        table = confusion(true, predicted, len(self.labels))
        return draw_confusion(table, self.labels, folder / "confusion.png")

    def _label(self, record: LabelledRecord) -> str:
        label = record.text(self._label_column)
        if not label.strip():
            raise DataError(f"{record.place}: the label ({self._label_column}) is empty.")
        return label

    def _number(self, record: LabelledRecord) -> int:
        label = self._label(record)
        if label not in self._counts:
            raise DataError(
                f"{record.place}: the training data have no label {label!r}."
                f"{suggestion(label, self.labels)} They have {len(self.labels)}: "
                f"{', '.join(self.labels[:8])}{', ...' if len(self.labels) > 8 else '.'}"
            )
        return self.labels.index(label)

    def _numbers(
        self, examples: Sequence[Example[int]], answers: Sequence[LabelAnswer]
    ) -> tuple[IndexArray, IndexArray]:
        numbers = {label: number for number, label in enumerate(self.labels)}
        return (
            np.array([example.truth for example in examples], np.int64),
            np.array([numbers[answer.label] for answer in answers], np.int64),
        )


class Classification(LabelTask):
    """A label for each sequence, such as an intent, a topic, or the family of a protein.

    Args:
        domain: reads the texts.
        text_column: of the data files.
        label_column: the same.
        group_column: what a held-out share must not divide, such as the document; identical
            texts are kept together without one.
        pooling: ``mean`` over the tokens, or ``cls``, the first.
        transform: of the head; ``tanh`` with ``cls`` is BERT's.
    """

    name = "classification"

    def __init__(
        self, domain: Domain, *, text_column: str = "text", label_column: str = "label",
        group_column: str = "", pooling: RowPooling = "mean", transform: Transform = "none",
    ) -> None:  # fmt: skip
        options = {"text_column": text_column, "group_column": group_column}
        super().__init__(
            domain, options=options, label_column=label_column, pooling=pooling, transform=transform
        )
        self._text_column, self._group_column = text_column, group_column

    def text_columns(self) -> dict[str, str]:
        """One."""
        return {"text_column": self._text_column}

    def record_of(self, item: Any) -> LabelledRecord:
        """Take a text."""
        return LabelledRecord({self._text_column: item}, "input", 1)

    def group_of(self, record: LabelledRecord) -> str:
        """Return the group, or the text itself."""
        return record.text(self._group_column or self._text_column)

    def encode_texts(self, record: LabelledRecord, max_length: int, report: ReadReport) -> Encoding:
        """Return the text, cut to the length that the model reads."""
        encoding = self.parse(record, record.text(self._text_column))
        return self.shorten(record, encoding, max_length, report)


class PairClassification(LabelTask):
    """A label for each pair of sequences, such as entailment or paraphrase.

    Args:
        domain: reads the texts.
        first_column: of the data files.
        second_column: the same.
        label_column: the same.
        group_column: what a held-out share must not divide; the first text without one.
        pooling: ``mean`` over the tokens, or ``cls``, the first.
        transform: of the head.
    """

    name = "pairs"
    joins_two_sequences: ClassVar[bool] = True

    def __init__(
        self, domain: Domain, *, first_column: str = "first", second_column: str = "second",
        label_column: str = "label", group_column: str = "", pooling: RowPooling = "mean",
        transform: Transform = "none",
    ) -> None:  # fmt: skip
        options = {
            "first_column": first_column,
            "second_column": second_column,
            "group_column": group_column,
        }
        super().__init__(
            domain, options=options, label_column=label_column, pooling=pooling, transform=transform
        )
        self._first, self._second, self._group_column = first_column, second_column, group_column

    def text_columns(self) -> dict[str, str]:
        """Two."""
        return {"first_column": self._first, "second_column": self._second}

    def record_of(self, item: Any) -> LabelledRecord:
        """Take two texts."""
        if not isinstance(item, Sequence) or isinstance(item, str) or len(item) != 2:
            raise DataError(f"input {item!r}: a pair of texts is needed.")
        return LabelledRecord({self._first: item[0], self._second: item[1]}, "input", 1)

    def group_of(self, record: LabelledRecord) -> str:
        """Return the group, or the first text."""
        return record.text(self._group_column or self._first)

    def encode_texts(self, record: LabelledRecord, max_length: int, report: ReadReport) -> Encoding:
        """Return both texts in one row, the longer one cut if they are too long."""
        first, second = (
            self.parse(record, record.text(column)) for column in (self._first, self._second)
        )
        joined = join_encodings(
            first, second, special=self.domain.vocabulary.special, max_length=max_length
        )
        if len(joined) < len(first) + len(second) - 1:
            report.truncated += 1
            report.note("longer than the model reads: cut", record.place)
        return joined
