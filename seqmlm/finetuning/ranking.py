"""Candidates of a query, the relevant ones first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from seqmlm.data.report import ReadReport
from seqmlm.domain import Domain
from seqmlm.errors import DataError
from seqmlm.finetuning.pooling import RowPooling, check_pooling, pooled_states
from seqmlm.finetuning.records import LabelledRecord, read_table
from seqmlm.finetuning.spans import log_softmax_by_row
from seqmlm.finetuning.statistics import IndexArray, ranking_measures
from seqmlm.finetuning.task import Example, LeftOutError, Scores, Task
from seqmlm.model.output_head import Transform
from seqmlm.objectives.rows import LossSum, Row, Targets
from seqmlm.pairs import join_encodings

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model

CANDIDATES = "candidates"


@dataclass(frozen=True, slots=True)
class RankingAnswer:
    """The candidates of one query, in the order of the data.

    Args:
        scores: of each candidate; only their differences mean something.
        ranks: of each candidate, 1 the best.
    """

    scores: tuple[float, ...]
    ranks: tuple[int, ...]


class Ranking(Task[tuple[float, ...], RankingAnswer]):
    """Orders the candidates of a query by relevance.

    The loss is the cross-entropy between the relevances of a query's candidates, scaled to add
    up to 1, and the softmax of their scores (ListNet's top-one loss with plain shares; for one
    relevant candidate the usual softmax over positive and negatives). Queries without a relevant
    candidate teach nothing and cannot be judged: they are left out and counted.

    Args:
        domain: reads the texts.
        query_column: of the data files; lines of one query may stand anywhere in the file.
        candidate_column: the same.
        relevance_column: the same; 0 or more, 0 for irrelevant.
        pooling: ``mean`` over the tokens, or ``cls``, the first.
        transform: of the head.
    """

    name = "ranking"
    belongs_to = "query"
    selection = "mrr"
    joins_two_sequences: ClassVar[bool] = True

    def __init__(
        self, domain: Domain, *, query_column: str = "query", candidate_column: str = "candidate",
        relevance_column: str = "relevance", pooling: RowPooling = "mean",
        transform: Transform = "none",
    ) -> None:  # fmt: skip
        check_pooling(pooling)
        options = {
            "query_column": query_column,
            "candidate_column": candidate_column,
            "relevance_column": relevance_column,
            "pooling": pooling,
        }
        super().__init__(domain, options=options, transform=transform)
        self._query, self._candidate, self._relevance = (
            query_column, candidate_column, relevance_column
        )  # fmt: skip
        self._pooling = pooling

    def read(self, path: str | Path, *, labelled: bool) -> list[LabelledRecord]:
        """Return one record for each query, with its candidates in the order of the file."""
        relevance = {"relevance_column": self._relevance} if labelled else {}
        needed = {"query_column": self._query, "candidate_column": self._candidate}
        queries: dict[str, list[LabelledRecord]] = {}
        for line in read_table(path, needed | relevance):
            queries.setdefault(line.text(self._query), []).append(line)
        return [
            LabelledRecord({self._query: query, CANDIDATES: lines}, lines[0].place, number)
            for number, (query, lines) in enumerate(queries.items(), start=1)
        ]

    def record_of(self, item: Any) -> LabelledRecord:
        """Take a query and a list of candidates."""
        if not isinstance(item, Sequence) or isinstance(item, str) or len(item) != 2:
            raise DataError(f"input {item!r}: a query and a list of candidates are needed.")
        query, candidates = item
        lines = [
            LabelledRecord({self._query: query, self._candidate: candidate}, "input", number)
            for number, candidate in enumerate(candidates, start=1)
        ]
        return LabelledRecord({self._query: query, CANDIDATES: lines}, "input", 1)

    def learn(self, records: Sequence[LabelledRecord]) -> None:
        """Check that there is something to learn."""
        if not any(max(self._relevances(record)) > 0 for record in records):
            raise DataError(f"{records[0].place} and on: no candidate is relevant.")

    def state(self) -> dict[str, Any]:
        """Nothing is learned from the data but weights."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to take over."""

    @property
    def outputs(self) -> int:
        """One number."""
        return 1

    def encode(
        self, record: LabelledRecord, *, max_length: int, report: ReadReport
    ) -> Example[tuple[float, ...]]:
        """Return a row for each candidate, whose target's weight is its share of the relevance."""
        lines: list[LabelledRecord] = record.fields[CANDIDATES]
        truth, shares = None, np.zeros(len(lines), np.float32)
        if all(line.fields.get(self._relevance) not in (None, "") for line in lines):
            relevances = self._relevances(record)
            if not max(relevances) > 0:
                raise LeftOutError(record.place, "no candidate of the query is relevant")
            truth = tuple(relevances)
            shares = (np.array(relevances) / math.fsum(relevances)).astype(np.float32)
        query = self.parse(record, record.text(self._query))
        rows = []
        nowhere = np.zeros(1, np.int32)
        for line, share in zip(lines, shares, strict=True):
            candidate = self.parse(line, line.text(self._candidate))
            pair = join_encodings(
                query, candidate, special=self.domain.vocabulary.special, max_length=max_length
            )
            if len(pair) < len(query) + len(candidate) - 1:
                report.note("longer than the model reads: cut", line.place)
            query_number = np.array([record.number], np.int32)
            targets = Targets(nowhere, query_number, weights=np.array([share], np.float32))
            rows.append(Row.of(pair, targets={self.name: targets}))
        return Example(record, tuple(rows), truth)

    def asked_in(self, row: Row) -> int:
        """One state a row."""
        return 1

    def logits(self, model: Model, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """Return the scores of the candidates, ``[rows, 1]``."""
        states = pooled_states(
            hidden, batch, pooling=self._pooling, special=model.vocabulary.special
        )
        return self.head(model)(states).float()  # type: ignore[no-any-return]

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed cross-entropy of the queries, nats, and their number.

        The rows of a query must follow one another.
        """
        targets = batch.targets_for(self.name)
        scores = self.logits(model, hidden, batch)
        _, lengths = torch.unique_consecutive(targets.labels, return_counts=True)
        bounds = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        everyone = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
        log_probabilities = log_softmax_by_row(scores, everyone, bounds)[:, 0]
        weights = scores.new_zeros(len(scores)) if targets.weights is None else targets.weights
        return LossSum(-(weights * log_probabilities).sum(), weights.sum())

    def answer(
        self, example: Example[tuple[float, ...]], scores: Sequence[Scores]
    ) -> RankingAnswer:
        """Return score and rank of each candidate; of equal ones the earlier ranks higher."""
        values = [float(row[0, 0]) for row in scores]
        order = np.argsort(-np.array(values), kind="stable")
        ranks = np.empty(len(values), np.int64)
        ranks[order] = np.arange(1, len(values) + 1)
        return RankingAnswer(tuple(values), tuple(ranks.tolist()))

    def measures(
        self, examples: Sequence[Example[tuple[float, ...]]], answers: Sequence[RankingAnswer]
    ) -> Callable[[IndexArray], dict[str, float]]:
        """MRR, hits at 1 and nDCG, means over queries."""
        found = [
            ranking_measures(_relevances_of(example), answer.scores)
            for example, answer in zip(examples, answers, strict=True)
        ]
        names = list(found[0])
        table = np.array([[one[name] for name in names] for one in found], np.float64)
        return lambda chosen: dict(zip(names, table[chosen].mean(axis=0).tolist(), strict=True))

    def bars(self, examples: Sequence[Example[tuple[float, ...]]]) -> dict[str, float]:
        """Return what the same score for every candidate is worth."""
        equal = [RankingAnswer((0.0,) * len(example.rows), ()) for example in examples]
        found = self.measures(examples, equal)(np.arange(len(examples)))
        return {f"{name} of equal scores": value for name, value in found.items()}

    def details(
        self, examples: Sequence[Example[tuple[float, ...]]], answers: Sequence[RankingAnswer]
    ) -> dict[str, Any]:
        """Return the number of candidates."""
        return {"candidates": sum(len(example.rows) for example in examples)}

    def lines(self, record: LabelledRecord) -> list[tuple[int, dict[str, Any]]]:
        """Return one line for each candidate."""
        return [(line.number, dict(line.fields)) for line in record.fields[CANDIDATES]]

    def columns(
        self, example: Example[tuple[float, ...]], answer: RankingAnswer
    ) -> list[dict[str, Any]]:
        """Return score and rank of each candidate."""
        return [
            {"score": float(f"{score:.6g}"), "rank": rank}
            for score, rank in zip(answer.scores, answer.ranks, strict=True)
        ]

    def group_of(self, record: LabelledRecord) -> str:
        """Return the query."""
        return record.text(self._query)

    def _relevances(self, record: LabelledRecord) -> list[float]:
        relevances = []
        for line in record.fields[CANDIDATES]:
            text = line.text(self._relevance)
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not 0 <= value < math.inf:
                raise DataError(
                    f"{line.place}: {self._relevance} is {text!r}; a number of 0 or more is needed."
                )
            relevances.append(value)
        return relevances


def _relevances_of(example: Example[tuple[float, ...]]) -> tuple[float, ...]:
    assert example.truth is not None
    return example.truth
