"""Extractive question answering: where in a context the answer begins and ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
from torch import Tensor

from seqmlm.data.report import ReadReport
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding, IntArray
from seqmlm.errors import ConfigError, DataError
from seqmlm.finetuning.answers import AnswerMetric, answer_scores
from seqmlm.finetuning.records import LabelledRecord
from seqmlm.finetuning.spans import best_span, log_softmax_by_row
from seqmlm.finetuning.squad import read_squad
from seqmlm.finetuning.statistics import IndexArray
from seqmlm.finetuning.task import Example, Scores, Task
from seqmlm.finetuning.windows import content_range, cut, window_starts
from seqmlm.model.output_head import Transform
from seqmlm.objectives.rows import LossSum, Row, Targets
from seqmlm.pairs import join_encodings

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model

NULL = 0
"""Position of the row's first token, which stands for "the answer is not in this window"."""


@dataclass(frozen=True, slots=True)
class SpanAnswer:
    """A predicted answer.

    Args:
        text: as it stands in the context; empty where no answer is predicted.
        probability: of its start and end, within the window that it was found in.
        start: character of the context where it begins; None without an answer.
    """

    text: str
    probability: float
    start: int | None


@dataclass(frozen=True, slots=True)
class References:
    """The reference answers of a question; none for a question without an answer."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuestionExample(Example[References]):
    """A question with its context in one window or several.

    Args:
        windows: the question and a part of the context, as encoded.
    """

    windows: tuple[Encoding, ...] = ()


class QuestionAnswering(Task[References, SpanAnswer]):
    """Finds the answer to a question as a span of a context.

    A row is the question and a window of its context; start and end are each a softmax over the
    window's context and its first token, which means "not here". So windows are comparable: a
    window without the answer gives its spans little probability. A span ends where it starts or
    later and is at most ``max_answer_tokens`` long; of all windows the most probable span is the
    answer. If the training data have questions without an answer, as SQuAD 2.0, no answer is
    predicted where "not here" is more probable than the best span in every window.

    Training learns the first reference answer, as BERT does; evaluation compares with all.

    Args:
        domain: reads the texts; its encodings must have offsets.
        metric: ``squad`` or ``cmrc2018``, see :func:`answer_scores`.
        max_question_tokens: longer questions are cut.
        max_answer_tokens: longest predicted span.
        stride: tokens between the starts of two windows; 0 stands for half a window.
        transform: of the head.

    Raises:
        ConfigError: an option is outside what is allowed.
    """

    name = "qa"
    belongs_to = "article"
    selection = "f1"
    joins_two_sequences: ClassVar[bool] = True

    def __init__(
        self, domain: Domain, *, metric: AnswerMetric = "squad", max_question_tokens: int = 64,
        max_answer_tokens: int = 30, stride: int = 0, transform: Transform = "none",
    ) -> None:  # fmt: skip
        if metric not in get_args(AnswerMetric):
            raise ConfigError(f"task.metric = {metric!r}: it is 'squad' or 'cmrc2018'.")
        limits = {
            "max_question_tokens": max_question_tokens, "max_answer_tokens": max_answer_tokens
        }  # fmt: skip
        for option, value in (*limits.items(), ("stride", stride + 1)):
            if value < 1:
                raise ConfigError(f"task.{option} = {value}: it is too small.")
        options = {"metric": metric, **limits, "stride": stride}
        super().__init__(domain, options=options, transform=transform)
        self._metric: AnswerMetric = metric
        self._max_question_tokens, self._max_answer_tokens = max_question_tokens, max_answer_tokens
        self._stride = stride
        self._may_be_unanswerable = False

    def read(self, path: str | Path, *, labelled: bool) -> list[LabelledRecord]:
        """Return the questions of a file; see :func:`read_squad`."""
        records = read_squad(path)
        for record in records:
            if labelled and "answers" not in record.fields:
                raise DataError(f"{record.place} has no 'answers'.")
        return records

    def record_of(self, item: Any) -> LabelledRecord:
        """Take a question and its context."""
        if not isinstance(item, Sequence) or isinstance(item, str) or len(item) != 2:
            raise DataError(f"input {item!r}: a question and a context are needed.")
        fields = {"id": "input", "question": item[0], "context": item[1]}
        return LabelledRecord(fields, "input", 1)

    def group_of(self, record: LabelledRecord) -> str:
        """Return the article."""
        return record.text("article")

    def learn(self, records: Sequence[LabelledRecord]) -> None:
        """Find out whether there are questions without an answer."""
        answers = [record.fields["answers"] for record in records]
        if not any(answers):
            raise DataError(f"{records[0].place} and on: no question has an answer.")
        self._may_be_unanswerable = not all(answers)

    def state(self) -> dict[str, Any]:
        """Return whether questions may have no answer."""
        return {"may_be_unanswerable": self._may_be_unanswerable}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over whether questions may have no answer."""
        self._may_be_unanswerable = state["may_be_unanswerable"]

    @property
    def outputs(self) -> int:
        """Two: start and end."""
        return 2

    def encode(
        self, record: LabelledRecord, *, max_length: int, report: ReadReport
    ) -> QuestionExample:
        """Return a row for each window; they cannot train if the answer is not at its offset."""
        question = self._question(record, report)
        context = self.parse(record, record.text("context"))
        if context.offsets is None:
            raise ConfigError(
                f"domain {self.domain.name!r} does not say where its tokens stand in the text: "
                "answers cannot be found in it."
            )
        span, can_train = self._tokens_of_answer(record, context.offsets, report)
        rows, windows = [], []
        for start, pair in self._windows(question, context, max_length):
            windows.append(pair)
            targets = {}
            if can_train:
                first = _context_start(pair)
                places = [NULL, NULL] if span is None else [first + t - start for t in span]
                if not all(first <= place < len(pair) - 1 for place in places):
                    places = [NULL, NULL]
                which = np.arange(2, dtype=np.int32)
                targets[self.name] = Targets(np.array(places, np.int32), which)
            rows.append(Row.of(pair, targets=targets))
        if len(rows) > 1:
            report.note("longer than the model reads: in windows", record.place)
        truth = None
        if "answers" in record.fields:
            truth = References(tuple(item["text"] for item in record.fields["answers"]))
        return QuestionExample(record, tuple(rows), truth, can_train, windows=tuple(windows))

    def asked_in(self, row: Row) -> int:
        """Every token."""
        return len(row.ids)

    def logits(self, model: Model, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """Return log p of starting and of ending at each token of a row, ``[tokens, 2]``."""
        scores = self.head(model)(hidden.float()).float()
        candidates = (batch.segment_ids == 1) & (batch.ids != model.vocabulary.special.end)
        candidates[batch.cu_seqlens[:-1].long()] = True
        return log_softmax_by_row(scores, candidates, batch.cu_seqlens)

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed cross-entropy of starts and ends, nats; two for each window."""
        targets = batch.targets_for(self.name)
        log_probabilities = self.logits(model, hidden, batch)
        total = -log_probabilities[targets.rows, targets.labels].sum()
        return LossSum(total, total.new_tensor(float(len(targets.rows))))

    def answer(self, example: Example[References], scores: Sequence[Scores]) -> SpanAnswer:
        """Return the most probable span over all windows."""
        assert isinstance(example, QuestionExample)
        spans = [
            best_span(
                window_scores.astype(np.float64),
                _context_start(window),
                len(window) - 1,
                max_tokens=self._max_answer_tokens,
            )
            for window, window_scores in zip(example.windows, scores, strict=True)
        ]
        best = max(range(len(spans)), key=lambda number: spans[number].log_probability)
        span, offsets = spans[best], example.windows[best].offsets
        nowhere = min(float(window_scores[NULL].sum()) for window_scores in scores)
        if self._may_be_unanswerable and nowhere > span.log_probability:
            return SpanAnswer("", math.exp(nowhere), None)
        assert offsets is not None
        start, end = int(offsets[span.start, 0]), int(offsets[span.end, 1])
        context = example.record.text("context")
        text = context[start:end].strip()
        start = context.index(text, start)
        return SpanAnswer(text, math.exp(span.log_probability), start)

    def measures(
        self, examples: Sequence[Example[References]], answers: Sequence[SpanAnswer]
    ) -> Callable[[IndexArray], dict[str, float]]:
        """Exact match and F1 in [0, 1], means over questions."""
        pairs = [
            answer_scores(answer.text, _references(example), self._metric)
            for example, answer in zip(examples, answers, strict=True)
        ]
        exact, f1 = np.array(pairs, np.float64).reshape(-1, 2).T
        return lambda chosen: {
            "exact_match": float(exact[chosen].mean()),
            "f1": float(f1[chosen].mean()),
        }

    def bars(self, examples: Sequence[Example[References]]) -> dict[str, float]:
        """Return what it is worth never to answer, where some questions have no answer."""
        unanswerable = sum(not _references(example) for example in examples)
        if not unanswerable:
            return {}
        return {"f1 without any answer": unanswerable / len(examples)}

    def details(
        self, examples: Sequence[Example[References]], answers: Sequence[SpanAnswer]
    ) -> dict[str, Any]:
        """Return whose metric it is."""
        return {"metric": self._metric}

    def lines(self, record: LabelledRecord) -> list[tuple[int, dict[str, Any]]]:
        """Return one line for each question, without its context."""
        fields = {name: record.fields[name] for name in ("id", "question")}
        if "answers" in record.fields:
            fields["answers"] = [item["text"] for item in record.fields["answers"]]
        return [(record.number, fields)]

    def columns(self, example: Example[References], answer: SpanAnswer) -> list[dict[str, Any]]:
        """Return text, place and probability."""
        start = "" if answer.start is None else answer.start
        return [
            {
                "prediction": answer.text,
                "prediction_start": start,
                "probability": round(answer.probability, 6),
            }
        ]

    def _question(self, record: LabelledRecord, report: ReadReport) -> Encoding:
        """The question's tokens, cut if there are too many."""
        special = self.domain.vocabulary.special
        question = self.parse(record, record.text("question"))
        first, last = content_range(question, special)
        if last - first <= self._max_question_tokens:
            return question
        report.note("question cut", record.place)
        return cut(question, special, 0, self._max_question_tokens)

    def _windows(
        self, question: Encoding, context: Encoding, max_length: int
    ) -> Iterator[tuple[int, Encoding]]:
        """Token of the context where each window begins, and the window behind the question."""
        special = self.domain.vocabulary.special
        first, last = content_range(question, special)
        room = max_length - 3 - (last - first)
        if room < 1:
            raise ConfigError(
                f"data.max_length = {max_length} leaves no room for a context beside a question "
                f"of {last - first} tokens. Raise it, or lower task.max_question_tokens."
            )
        begin, end = content_range(context, special)
        stride = min(self._stride, room) or max(room // 2, 1)
        for start in window_starts(end - begin, room, stride):
            window = cut(context, special, start, start + room)
            pair = join_encodings(question, window, special=special, max_length=max_length)
            yield begin + start, pair

    def _tokens_of_answer(
        self, record: LabelledRecord, offsets: IntArray, report: ReadReport
    ) -> tuple[tuple[int, int] | None, bool]:
        """First and last token of the first answer, if any; and whether one can learn from it."""
        answers = record.fields.get("answers")
        if not answers:
            return None, answers is not None
        text, start = answers[0]["text"], answers[0]["answer_start"]
        end = start + len(text)
        touched = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < end))
        if start < 0 or record.text("context")[start:end] != text or not len(touched):
            report.note("answer not found at its offset: not trained on", record.place)
            return None, False
        return (int(touched[0]), int(touched[-1])), True


def _references(example: Example[References]) -> tuple[str, ...]:
    assert example.truth is not None
    return example.truth.texts


def _context_start(pair: Encoding) -> int:
    """Position of the first token of the second segment."""
    return int((pair.segment_ids == 0).sum())
