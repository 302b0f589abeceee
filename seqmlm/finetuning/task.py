"""What a labelled task is: an objective whose targets people gave."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm.data.packing import pack
from seqmlm.data.report import ReadReport
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.errors import DataError
from seqmlm.finetuning.records import LabelledRecord
from seqmlm.finetuning.statistics import Evaluation, IndexArray, bootstrap
from seqmlm.finetuning.windows import content_range, cut
from seqmlm.model.output_head import OutputHead, OutputHeadConfig, Transform
from seqmlm.objectives.rows import Objective, Row
from seqmlm.registry import Registry

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model

Scores = npt.NDArray[np.float32]
Truth = TypeVar("Truth")
Answer = TypeVar("Answer")

TASKS = Registry(
    noun="task",
    builtin={
        "classification": "seqmlm.finetuning.classification:Classification",
        "pairs": "seqmlm.finetuning.classification:PairClassification",
        "tokens": "seqmlm.finetuning.token_labels:TokenClassification",
        "qa": "seqmlm.finetuning.question_answering:QuestionAnswering",
        "regression": "seqmlm.finetuning.regression:Regression",
        "ranking": "seqmlm.finetuning.ranking:Ranking",
    },
    group="seqmlm.tasks",
)


class LeftOutError(DataError):
    """An item that nothing can be done with: files skip and count it."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place, self.reason = place, reason


@dataclass(frozen=True, slots=True)
class Example(Generic[Truth]):
    """One item as the encoder reads it.

    Args:
        record: it was made of.
        rows: what is encoded: one, or one for each window or candidate. Their targets say at
            which tokens the head is asked; their labels count only where there is a truth.
        truth: None for an item without a label.
        can_train: whether the rows have targets to learn from.
    """

    record: LabelledRecord
    rows: tuple[Row, ...]
    truth: Truth | None
    can_train: bool = True

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows."""
        return sum(len(row.ids) for row in self.rows)


class Task(Objective, Generic[Truth, Answer]):
    """A labelled task on top of a trained encoder.

    The constructor takes the domain and then the task's own settings as keyword arguments; it
    keeps them in :attr:`options`. :meth:`learn` adds what the training data say, such as the
    names of the labels.
    """

    name: str
    selection: str
    """Metric by which the best epoch is chosen; larger is better."""

    joins_two_sequences: ClassVar[bool] = False
    """Whether its rows have a second segment."""

    def __init__(
        self, domain: Domain, *, options: Mapping[str, Any], transform: Transform = "none"
    ) -> None:
        self.domain = domain
        self.options = dict(options) | {"transform": transform}
        self._transform = transform

    @property
    def mask_token_rate(self) -> float:
        """Nothing is hidden."""
        return 0.0

    @property
    def predicts_tokens(self) -> bool:
        """It asks a head of its own."""
        return False

    def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
        """Return the encoding as one row; what is asked of it comes with :meth:`encode`."""
        return [Row.of(encoding)]

    @abstractmethod
    def read(self, path: str | Path, *, labelled: bool) -> list[LabelledRecord]:
        """Return all items of a file.

        Args:
            path: the task's own format.
            labelled: whether every item must have its label.

        Raises:
            DataError: the file cannot be used; names the line.
        """

    @abstractmethod
    def record_of(self, item: Any) -> LabelledRecord:
        """Return an item given in Python as the record of a file without labels.

        Raises:
            DataError: it is not what the task takes.
        """

    @abstractmethod
    def learn(self, records: Sequence[LabelledRecord]) -> None:
        """Take over from the training data what the task needs to know.

        Raises:
            DataError: a label is missing or not usable, or there is nothing to tell apart.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return what was learned as plain JSON values; :meth:`restore` reverses it."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Numbers that the head gives for each state; known once the task has learned."""

    belongs_to: ClassVar[str] = "text or group"
    """What :meth:`group_of` names, for messages."""

    def group_of(self, record: LabelledRecord) -> str:
        """Return what an item belongs to; a held-out share takes whole groups."""
        return record.place

    @abstractmethod
    def encode(
        self, record: LabelledRecord, *, max_length: int, report: ReadReport
    ) -> Example[Truth]:
        """Make an item ready for the encoder, with its truth if it has a label.

        Raises:
            LeftOutError: the item cannot be encoded.
            DataError: its label is not one of the training data.
        """

    @abstractmethod
    def logits(self, model: Model, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """Return what the head says, float32 ``[m, outputs]``, in the order of the rows."""

    @abstractmethod
    def asked_in(self, row: Row) -> int:
        """Return how many of the ``m`` states of :meth:`logits` belong to a row."""

    @abstractmethod
    def answer(self, example: Example[Truth], scores: Sequence[Scores]) -> Answer:
        """Return the prediction from the head's numbers, ``[asked, outputs]`` for each row."""

    @abstractmethod
    def measures(
        self, examples: Sequence[Example[Truth]], answers: Sequence[Answer]
    ) -> Callable[[IndexArray], dict[str, float]]:
        """Return what measures chosen examples, all of which have a truth.

        The function takes int64 ``[n]``, positions in ``examples`` of which some may repeat, and
        returns each metric; :attr:`selection` is one of them.
        """

    def bars(self, examples: Sequence[Example[Truth]]) -> dict[str, float]:
        """Return what predictors that look at nothing reach on the same examples."""
        return {}

    def details(
        self, examples: Sequence[Example[Truth]], answers: Sequence[Answer]
    ) -> dict[str, Any]:
        """Return more tables of an evaluation, as plain JSON values."""
        return {}

    def evaluate(
        self,
        examples: Sequence[Example[Truth]],
        answers: Sequence[Answer],
        generator: np.random.Generator,
    ) -> Evaluation:
        """Measure predictions of examples that have a truth, at least one.

        Args:
            generator: of the bootstrap.
        """
        return Evaluation(
            examples=len(examples),
            metrics=bootstrap(self.measures(examples, answers), len(examples), generator),
            bars=self.bars(examples),
            details=self.details(examples, answers),
        )

    def lines(self, record: LabelledRecord) -> list[tuple[int, dict[str, Any]]]:
        """Return number and columns of the lines of a prediction file that an item makes."""
        return [(record.number, dict(record.fields))]

    @abstractmethod
    def columns(self, example: Example[Truth], answer: Answer) -> list[dict[str, Any]]:
        """Return what is written beside each of :meth:`lines`."""

    def draw(
        self, examples: Sequence[Example[Truth]], answers: Sequence[Answer], folder: Path
    ) -> list[Path]:
        """Draw what a picture shows best; returns the files written."""
        return []

    def head_config(self, *, dropout: float) -> OutputHeadConfig:
        """Return the shape of the task's head."""
        return OutputHeadConfig(outputs=self.outputs, transform=self._transform, dropout=dropout)

    def head(self, model: Model) -> OutputHead:
        """Return the task's head in a model."""
        head = model.heads[self.name]
        assert isinstance(head, OutputHead)
        return head

    def parse(self, record: LabelledRecord, text: str) -> Encoding:
        """Encode a text of an item.

        Raises:
            LeftOutError: it is empty or cannot be encoded; names the place.
        """
        if not text.strip():
            raise LeftOutError(record.place, "empty text")
        try:
            return self.domain.parse(text)
        except DataError as error:
            raise LeftOutError(f"{record.place} ({error})", "cannot be encoded") from error

    def shorten(
        self, record: LabelledRecord, encoding: Encoding, max_length: int, report: ReadReport
    ) -> Encoding:
        """Cut off what exceeds ``max_length`` tokens, special tokens included, and count it."""
        special = self.domain.vocabulary.special
        first, last = content_range(encoding, special)
        room = max_length - (len(encoding) - (last - first))
        if last - first <= room:
            return encoding
        report.truncated += 1
        report.note("longer than the model reads: cut", record.place)
        return cut(encoding, special, 0, room)


def predict(
    model: Model, task: Task[Truth, Answer], examples: Sequence[Example[Truth]], *,
    tokens_per_batch: int,
) -> tuple[list[Answer], float]:  # fmt: skip
    """Return the answers in order, and the mean loss of the examples with a truth; NaN for none.

    Args:
        model: with the task's head.
        task: of the examples.
        examples: any number.
        tokens_per_batch: bounds the memory; results do not depend on it.
    """
    found: dict[int, Answer] = {}
    total = count = 0.0
    with model.inference():
        for chosen in _batches(examples, tokens_per_batch):
            rows = [row for position in chosen for row in examples[position].rows]
            batch = pack(rows).to(model.device)
            hidden = model(batch)
            scores = iter(_by_row(task, rows, task.logits(model, hidden, batch)))
            for position in chosen:
                example = examples[position]
                found[position] = task.answer(example, [next(scores) for _ in example.rows])
            if all(examples[position].truth is not None for position in chosen):
                loss = task.loss(model, hidden, batch)
                total, count = total + float(loss.total), count + float(loss.count)
    answers = [found[position] for position in range(len(examples))]
    return answers, total / count if count else float("nan")


def _batches(examples: Sequence[Example[Any]], tokens_per_batch: int) -> Iterator[list[int]]:
    """Positions of examples of similar length; those with and without a truth apart."""
    order = sorted(
        range(len(examples)),
        key=lambda position: (examples[position].truth is None, -examples[position].num_tokens),
    )
    chosen: list[int] = []
    tokens = 0
    for position in order:
        size = examples[position].num_tokens
        mixed = chosen and (examples[chosen[0]].truth is None) != (examples[position].truth is None)
        if chosen and (mixed or tokens + size > tokens_per_batch):
            yield chosen
            chosen, tokens = [], 0
        chosen.append(position)
        tokens += size
    if chosen:
        yield chosen


def _by_row(task: Task[Any, Any], rows: Sequence[Row], logits: Tensor) -> list[Scores]:
    sizes = [task.asked_in(row) for row in rows]
    return [part.numpy() for part in torch.split(logits.float().cpu(), sizes)]
