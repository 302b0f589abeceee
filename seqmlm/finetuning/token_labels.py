"""A label for each word or residue: named entities, parts of speech, secondary structure."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

from seqmlm.data.report import ReadReport
from seqmlm.domain import Domain
from seqmlm.errors import ConfigError, DataError, suggestion
from seqmlm.finetuning.conll import read_conll
from seqmlm.finetuning.entities import (
    OUTSIDE,
    are_bio,
    begins_inside,
    complete_bio,
    entity_counts,
    not_bio,
)
from seqmlm.finetuning.plots import draw_confusion
from seqmlm.finetuning.records import TABLE_FORMATS, LabelledRecord, read_table
from seqmlm.finetuning.statistics import (
    IndexArray,
    confusion,
    confusion_measures,
    f1_measures,
)
from seqmlm.finetuning.task import Example, Scores, Task
from seqmlm.finetuning.windows import best_windows, content_range, cut, window_starts
from seqmlm.model.output_head import Transform
from seqmlm.objectives.rows import LossSum, Row, Targets

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model

logger = logging.getLogger("seqmlm")

LabelledUnit = Literal["word", "character"]

_SLIPS = 0.05
"""Share of the labels; more that are not of BIO are a scheme of their own."""


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """The labels of one sequence.

    Args:
        labels: of each word or character.
        probabilities: of each label, in [0, 1]; 0 where no token stands for the word.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TokenTruth:
    """The true labels of one sequence, of all its words."""

    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenExample(Example[TokenTruth]):
    """A sequence in one window or several.

    Args:
        words: for each window the words, in order, that are judged there by their first token.
    """

    words: tuple[npt.NDArray[np.int64], ...] = ()


class TokenClassification(Task[TokenTruth, TokenAnswer]):
    """A label for each word, or for each character (a residue of a protein).

    A word is judged by its first token; a sequence longer than the model reads is judged in
    overlapping windows, each word in the one where it has most neighbours. Labels that are all
    ``O``, ``B-TYPE`` or ``I-TYPE`` are read as entities and judged by the micro-averaged F1 of
    whole entities; any others by accuracy and macro-F1.

    Reads CoNLL files (a word and its label on each line), or tables with the words of a text
    and their labels, both separated by blanks or given as lists.

    Args:
        domain: reads the texts; its encodings must have offsets.
        text_column: of tables.
        label_column: of tables; its labels are written together if units are characters.
        unit: what has a label in tables: ``word``, or ``character``.
        transform: of the head.
    """

    name = "tokens"

    def __init__(
        self, domain: Domain, *, text_column: str = "text", label_column: str = "labels",
        unit: LabelledUnit = "word", transform: Transform = "none",
    ) -> None:  # fmt: skip
        if unit not in get_args(LabelledUnit):
            raise ConfigError(f"task.unit = {unit!r}: it is 'word' or 'character'.")
        options = {"text_column": text_column, "label_column": label_column, "unit": unit}
        super().__init__(domain, options=options, transform=transform)
        self._text_column, self._label_column, self._unit = text_column, label_column, unit
        self._take([], "")

    def read(self, path: str | Path, *, labelled: bool) -> list[LabelledRecord]:
        """Return the sequences of a table or of a CoNLL file."""
        if Path(str(path).removesuffix(".gz")).suffix.lower() in TABLE_FORMATS:
            label = {"label_column": self._label_column} if labelled else {}
            return read_table(path, {"text_column": self._text_column} | label)
        records = read_conll(path, text=self._text_column, labels=self._label_column)
        if labelled and self._label_column not in records[0].fields:
            raise DataError(
                f"{path} has one column; a line must be a word and its label, separated by a tab "
                f"or blanks. Tables are told by their ending: {', '.join(TABLE_FORMATS)}."
            )
        return records

    def record_of(self, item: Any) -> LabelledRecord:
        """Take a text, or a list of words."""
        return LabelledRecord({self._text_column: item}, "input", 1)

    def learn(self, records: Sequence[LabelledRecord]) -> None:
        """Take over the labels; both of every type of entity."""
        counts = Counter(label for record in records for label in self._labels(record))
        if len(counts) < 2:
            raise DataError(
                f"{records[0].place} and on: all labels are {next(iter(counts), 'missing')!r}. "
                "Two labels at least are needed."
            )
        if are_bio(counts):
            self._take(complete_bio(list(counts)), OUTSIDE)
        else:
            self._require_no_slip(records, counts)
            self._take(sorted(counts), counts.most_common(1)[0][0])

    def _require_no_slip(
        self, records: Sequence[LabelledRecord], counts: Mapping[str, int]
    ) -> None:
        """Refuse labels of entities with a few others among them: these are typing errors.

        Read as they are, whole entities would not be found, and another measure would be told.
        """
        odd = not_bio(counts)
        if not are_bio(counts.keys() - odd):
            return
        share = sum(counts[label] for label in odd) / sum(counts.values())
        if share >= _SLIPS:
            logger.warning(
                "tokens: labels such as %r are none of BIO (O, B-TYPE, I-TYPE), so that words are "
                "judged one by one, not whole entities.",
                odd[0],
            )
            return
        place, position, label = next(
            (record.place, position, label)
            for record in records
            for position, label in enumerate(self._labels(record), start=1)
            if label in odd
        )
        raise DataError(
            f"{place}, {self._unit} {position}: {label!r} among labels of entities, which are "
            f"'O', 'B-TYPE' or 'I-TYPE'.{suggestion(f'I-{label}', list(counts))} "
            f"{sum(counts[each] for each in odd):,} labels of {sum(counts.values()):,} are such."
        )

    def state(self) -> dict[str, Any]:
        """Return the labels and the one of words without a token."""
        return {"labels": self.labels, "label_without_token": self._majority}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the labels."""
        self._take(state["labels"], state["label_without_token"])

    @property
    def outputs(self) -> int:
        """One for each label."""
        return len(self.labels)

    def encode(
        self, record: LabelledRecord, *, max_length: int, report: ReadReport
    ) -> TokenExample:
        """Return a row for each window, with targets at the first tokens of words."""
        text, spans = self._words(record)
        encoding = self.parse(record, text)
        if encoding.offsets is None:
            raise ConfigError(
                f"domain {self.domain.name!r} does not say where its tokens stand in the text: "
                "words cannot be labelled."
            )
        truth = None
        if record.fields.get(self._label_column) not in (None, ""):
            truth = TokenTruth(tuple(self._checked_labels(record)))
            if self._has_entities and (unopened := begins_inside(truth.labels)):
                report.note("entity that begins with I- instead of B-", record.place, unopened)
        special = self.domain.vocabulary.special
        first, last = content_range(encoding, special)
        words, tokens = _first_tokens(spans, encoding.offsets[first:last])
        if len(words) < len(spans):
            report.note("word without a token", record.place, len(spans) - len(words))
        room = max_length - (len(encoding) - (last - first))
        starts = window_starts(last - first, room, max(room // 2, 1))
        if len(starts) > 1:
            report.note("longer than the model reads: in windows", record.place)
        window = best_windows(last - first, room, starts)[tokens]
        rows, judged = [], []
        for number, start in enumerate(starts):
            here = window == number
            labels = np.zeros(int(here.sum()), np.int32)
            if truth is not None:
                numbers = [self.labels.index(truth.labels[word]) for word in words[here].tolist()]
                labels = np.array(numbers, np.int32)
            positions = (tokens[here] - start + first).astype(np.int32)
            cut_out = cut(encoding, special, start, start + room)
            rows.append(Row.of(cut_out, targets={self.name: Targets(positions, labels)}))
            judged.append(words[here])
        return TokenExample(record, tuple(rows), truth, words=tuple(judged))

    def asked_in(self, row: Row) -> int:
        """One state for each word judged there."""
        return len(row.targets[self.name].positions)

    def logits(self, model: Model, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """Return the scores of the labels, ``[words, labels]``."""
        chosen = hidden.index_select(0, batch.targets_for(self.name).rows)
        return self.head(model)(chosen.float()).float()  # type: ignore[no-any-return]

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed cross-entropy of the labels, nats."""
        labels = batch.targets_for(self.name).labels
        total = F.cross_entropy(self.logits(model, hidden, batch), labels, reduction="sum")
        return LossSum(total, total.new_tensor(float(len(labels))))

    def answer(self, example: Example[TokenTruth], scores: Sequence[Scores]) -> TokenAnswer:
        """Return the most probable label of each word."""
        assert isinstance(example, TokenExample)
        count = len(self._words(example.record)[1])
        labels, probabilities = [self._majority] * count, [0.0] * count
        for words, window in zip(example.words, scores, strict=True):
            shifted = np.exp(window.astype(np.float64) - window.max(axis=1, keepdims=True))
            shares = shifted / shifted.sum(axis=1, keepdims=True)
            for word, best, share in zip(
                words.tolist(), shares.argmax(axis=1).tolist(), shares.max(axis=1).tolist(),
                strict=True,
            ):  # fmt: skip
                labels[word], probabilities[word] = self.labels[best], share
        return TokenAnswer(tuple(labels), tuple(probabilities))

    def measures(
        self, examples: Sequence[Example[TokenTruth]], answers: Sequence[TokenAnswer]
    ) -> Callable[[IndexArray], dict[str, float]]:
        """Precision, recall and F1 of entities, or accuracy and macro-F1 of labels."""
        pairs = list(zip(examples, answers, strict=True))
        if self._has_entities:
            counts = np.array([entity_counts(_truth(e), a.labels) for e, a in pairs], np.int64)
            return lambda chosen: f1_measures(counts[chosen])
        tables = np.array(
            [confusion(*self._numbers([e], [a]), len(self.labels)) for e, a in pairs], np.int64
        )
        return lambda chosen: confusion_measures(tables[chosen].sum(axis=0))

    def bars(self, examples: Sequence[Example[TokenTruth]]) -> dict[str, float]:
        """Return what the most frequent label of the training data reaches."""
        if self._has_entities:
            return {}
        majority = [
            TokenAnswer((self._majority,) * len(_truth(example)), ()) for example in examples
        ]
        found = self.measures(examples, majority)(np.arange(len(examples)))
        return {f"{name} of the most frequent label": value for name, value in found.items()}

    def details(
        self, examples: Sequence[Example[TokenTruth]], answers: Sequence[TokenAnswer]
    ) -> dict[str, Any]:
        """Return the confusion matrix of words: a row for each true label."""
        table = confusion(*self._numbers(examples, answers), len(self.labels))
        return {"labels": self.labels, "confusion": table.tolist()}

    def lines(self, record: LabelledRecord) -> list[tuple[int, dict[str, Any]]]:
        """Return one line for each word."""
        text, spans = self._words(record)
        labels = list(self._labels(record)) if record.fields.get(self._label_column) else None
        return [
            (
                record.number,
                {"sequence": record.number, "word": text[start:end]}
                | ({} if labels is None else {"label": labels[index]}),
            )
            for index, (start, end) in enumerate(spans)
        ]

    def columns(self, example: Example[TokenTruth], answer: TokenAnswer) -> list[dict[str, Any]]:
        """Return label and probability of each word."""
        return [
            {"prediction": label, "probability": round(probability, 6)}
            for label, probability in zip(answer.labels, answer.probabilities, strict=True)
        ]

    def draw(
        self,
        examples: Sequence[Example[TokenTruth]],
        answers: Sequence[TokenAnswer],
        folder: Path,
    ) -> list[Path]:
        """Draw the confusion matrix of the labels of words."""
        table = confusion(*self._numbers(examples, answers), len(self.labels))
        return draw_confusion(table, self.labels, folder / "confusion.png")

    def _take(self, labels: Sequence[str], majority: str) -> None:
        self.labels, self._majority = list(labels), majority
        self._has_entities = are_bio(self.labels)
        self.selection = "f1" if self._has_entities else "accuracy"

    def _words(self, record: LabelledRecord) -> tuple[str, list[tuple[int, int]]]:
        """The text and where each labelled word stands in it."""
        content = record.fields.get(self._text_column)
        if self._unit == "character":
            text = record.text(self._text_column)
            return text, [(start, start + 1) for start in range(len(text))]
        words = content if isinstance(content, list) else record.text(self._text_column).split()
        if not all(isinstance(word, str) and word for word in words):
            raise DataError(f"{record.place}: {self._text_column} must be a list of words.")
        ends = np.cumsum([len(word) + 1 for word in words]) - 1
        spans = [(int(end) - len(word), int(end)) for word, end in zip(words, ends, strict=True)]
        return " ".join(words), spans

    def _labels(self, record: LabelledRecord) -> list[str]:
        content = record.fields.get(self._label_column)
        if isinstance(content, list):
            labels = [str(label) for label in content]
        else:
            text = record.text(self._label_column)
            labels = list(text) if self._unit == "character" else text.split()
        count = len(self._words(record)[1])
        if len(labels) != count:
            hint = " Labels written together need --set task.unit=character."
            raise DataError(
                f"{record.place}: {len(labels)} labels for {count} {self._unit}s."
                f"{hint if self._unit == 'word' and len(labels) == 1 else ''}"
            )
        return labels

    def _checked_labels(self, record: LabelledRecord) -> list[str]:
        labels = self._labels(record)
        for position, label in enumerate(labels, start=1):
            if label not in self.labels:
                raise DataError(
                    f"{record.place}, {self._unit} {position}: the training data have no label "
                    f"{label!r}.{suggestion(label, self.labels)} They have: "
                    f"{', '.join(self.labels)}."
                )
        return labels

    def _numbers(
        self, examples: Sequence[Example[TokenTruth]], answers: Sequence[TokenAnswer]
    ) -> tuple[IndexArray, IndexArray]:
        numbers = {label: number for number, label in enumerate(self.labels)}
        true = [numbers[label] for example in examples for label in _truth(example)]
        predicted = [numbers[label] for answer in answers for label in answer.labels]
        return np.array(true, np.int64), np.array(predicted, np.int64)


def _truth(example: Example[TokenTruth]) -> tuple[str, ...]:
    assert example.truth is not None
    return example.truth.labels


def _first_tokens(
    spans: Sequence[tuple[int, int]], offsets: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The words that some token stands for, and the first token of each.

    A token belongs to the word of its last character: those of byte-level BPE may begin with the
    blank before a word.
    """
    starts, ends = np.array(spans, np.int64).reshape(-1, 2).T
    last = offsets[:, 1].astype(np.int64) - 1
    word = np.searchsorted(starts, last, side="right") - 1
    tokens = np.flatnonzero((offsets[:, 1] > offsets[:, 0]) & (word >= 0) & (last < ends[word]))
    words, first = np.unique(word[tokens], return_index=True)
    return words, tokens[first]
