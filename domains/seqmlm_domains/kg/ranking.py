"""Filtered ranks of true answers among all entities, without a matrix of all scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm.errors import DataError
from seqmlm_domains.kg.linearisation import Part

ENTITIES_PER_CHUNK = 262_144

Triples = npt.NDArray[np.int64]
Scores = Callable[[slice | Tensor], Tensor]
"""Scores of a range or of single entities for the queries at hand, float ``[entities, queries]``.
"""


@dataclass(frozen=True)
class Queries:
    """The different questions that triples ask in one direction.

    Args:
        missing: the part that is asked for, head or tail.
        known: int64 ``[queries, 2]``: the known entity and the relation.
        answers: int64 ``[triples]``, the true entity of each triple, grouped by query.
        answer_offsets: int64 ``[queries + 1]``.
        filtered: int64, all known answers of each query, the true ones included.
        filter_offsets: int64 ``[queries + 1]``.
        triples: int64 ``[triples]``, which triple each answer belongs to.
    """

    missing: Part
    known: npt.NDArray[np.int64]
    answers: npt.NDArray[np.int64]
    answer_offsets: npt.NDArray[np.int64]
    filtered: npt.NDArray[np.int64]
    filter_offsets: npt.NDArray[np.int64]
    triples: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.known)

    @classmethod
    def of(cls, triples: Triples, missing: Part, *, known_triples: Triples) -> Queries:
        """Collect the questions of triples.

        Args:
            triples: int64 ``[n, 3]``, whose ``missing`` part is asked for.
            missing: head or tail.
            known_triples: int64 ``[m, 3]``; whatever else they state as an answer is left out
                of the ranking. Those of ``triples`` themselves need not be among them.
        """
        asked = np.array([Part.TAIL if missing == Part.HEAD else Part.HEAD, Part.RELATION])
        known, inverse = np.unique(triples[:, asked], axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
        order = np.argsort(inverse, kind="stable")
        statements = np.unique(np.concatenate([known_triples, triples]), axis=0)
        place = _find(statements[:, asked], known)
        relevant = place >= 0
        answers_by_query = np.argsort(place[relevant], kind="stable")
        return cls(
            missing,
            known,
            triples[order, missing],
            _offsets(inverse, len(known)),
            statements[relevant, missing][answers_by_query],
            _offsets(place[relevant], len(known)),
            order,
        )


@dataclass(frozen=True)
class Ranks:
    """Ranks of true answers, 1 is best; int64 ``[triples]`` each.

    Args:
        optimistic: one more than the candidates that score higher.
        pessimistic: the candidates that score at least as high, the answer included.
        candidates: how many were ranked, the answer included, those filtered left out.
    """

    optimistic: npt.NDArray[np.int64]
    pessimistic: npt.NDArray[np.int64]
    candidates: npt.NDArray[np.int64]

    @property
    def realistic(self) -> npt.NDArray[np.float64]:
        """Mean of both, float64 ``[triples]``: the expected rank if ties are broken at random."""
        return (self.optimistic + self.pessimistic) / 2


def rank_answers(
    queries: Queries,
    first: int,
    scores: Scores,
    *,
    num_entities: int,
    device: torch.device,
    excluded: npt.NDArray[np.int64] | None = None,
) -> tuple[Ranks, npt.NDArray[np.int64]]:
    """Rank the true answers of the queries that ``scores`` holds.

    Memory: scores of :data:`ENTITIES_PER_CHUNK` entities at a time. Every comparison is between
    float32 numbers that the same sum has made: no tie is made or broken by rounding.

    Args:
        queries: of one direction.
        first: number of the query in column 0.
        scores: of entities for the queries in hand.
        num_entities: candidates, with those excluded.
        device: of the scores.
        excluded: int64, increasing: entities that are no candidates of any query.

    Returns:
        Ranks of the answers of these queries, and the triples they belong to.

    Raises:
        DataError: a score is not a number: it would rank first.
    """
    probe = scores(torch.zeros(1, dtype=torch.int64, device=device))
    count = probe.shape[1]
    answers, column = _part(queries.answers, queries.answer_offsets, first, count)
    filtered, filter_column = _part(queries.filtered, queries.filter_offsets, first, count)
    distinct, place = np.unique(answers, return_inverse=True)
    true = scores(torch.from_numpy(distinct).to(device))[place, column]
    if true.isnan().any():
        raise DataError("The model scores a true answer NaN; it cannot be ranked. Train it anew.")
    excluded = np.empty(0, np.int64) if excluded is None else excluded
    known = np.empty(len(filtered), np.float32)
    higher = torch.zeros(len(answers), dtype=torch.int64, device=device)
    at_least = torch.zeros_like(higher)
    for start in range(0, num_entities, ENTITIES_PER_CHUNK):
        chunk = scores(slice(start, min(start + ENTITIES_PER_CHUNK, num_entities)))
        begin, end = np.searchsorted(excluded, [start, start + len(chunk)])
        chunk[torch.from_numpy(excluded[begin:end] - start).to(device)] = torch.nan  # never >=
        _count(chunk, true, column, higher, at_least)
        here = (filtered >= start) & (filtered < start + len(chunk))
        known[here] = chunk[filtered[here] - start, filter_column[here]].cpu().numpy()
    begin, end = queries.answer_offsets[first], queries.answer_offsets[first + count]
    # Known answers are no candidates; the true one is among them and counts itself.
    ranks = _without(
        Ranks(
            higher.cpu().numpy() + 1,
            at_least.cpu().numpy(),
            np.full(len(answers), num_entities - len(excluded), np.int64),
        ),
        (answers, column, true.cpu().numpy()),
        (filtered, np.diff(queries.filter_offsets[first : first + count + 1]), known),
    )
    return ranks, queries.triples[begin:end]


def _count(
    chunk: Tensor, true: Tensor, column: npt.NDArray[np.int64], higher: Tensor, at_least: Tensor
) -> None:
    """Add for each answer how many of ``chunk``, ``[entities, queries]``, score as high."""
    columns, firsts = np.unique(column, return_index=True)
    best = chunk.new_zeros(chunk.shape[1])
    best[columns] = true[firsts]
    # The comparison as floats: their sum is exact up to 2^24 rows, and vectorised as no sum of
    # booleans is. This is most of the time of a ranking.
    is_so = torch.empty_like(chunk)
    higher[firsts] += torch.gt(chunk, best, out=is_so).sum(0)[columns].long()
    at_least[firsts] += torch.ge(chunk, best, out=is_so).sum(0)[columns].long()
    further = np.setdiff1d(np.arange(len(column)), firsts)
    rows = chunk.T.contiguous() if len(further) else chunk
    for index in further.tolist():
        row, score = rows[column[index]], true[index]
        higher[index] += torch.count_nonzero(row > score)
        at_least[index] += torch.count_nonzero(row >= score)


def _without(
    ranks: Ranks,
    answers: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]],
    filtered: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]],
) -> Ranks:
    """Take the other known answers of each query out of its ranking.

    Args:
        ranks: among all entities.
        answers: entity, query and score of each answer.
        filtered: entity of each known answer, grouped by query; how many each query has; their
            scores.
    """
    entity, column, true = answers
    other, sizes, score = filtered
    lengths = sizes[column]
    ends = np.cumsum(lengths)
    answer = np.repeat(np.arange(len(entity)), lengths)
    starts = (np.cumsum(sizes) - sizes)[column]
    pair = np.arange(len(answer)) + np.repeat(starts - (ends - lengths), lengths)
    is_other = other[pair] != entity[answer]

    def number(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        return np.bincount(answer[chosen & is_other], minlength=len(entity))

    return Ranks(
        ranks.optimistic - number(score[pair] > true[answer]),
        ranks.pessimistic - number(score[pair] >= true[answer]),
        ranks.candidates - number(is_other),
    )


def _part(
    values: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], first: int, count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The values of some queries, and the column of each."""
    lengths = np.diff(offsets[first : first + count + 1])
    columns = np.repeat(np.arange(count), lengths)
    return values[offsets[first] : offsets[first + count]], columns


def _offsets(groups: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    sizes = np.bincount(groups, minlength=count)
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _find(rows: npt.NDArray[np.int64], known: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each row of two numbers stands in ``known``, which is sorted; -1 if nowhere."""
    if not len(known):
        return np.full(len(rows), -1, np.int64)
    size = int(max(rows.max(initial=0), known.max(initial=0))) + 1
    keys, wanted = known[:, 0] * size + known[:, 1], rows[:, 0] * size + rows[:, 1]
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)


def unmentioned(num_entities: int, *triples: Triples) -> npt.NDArray[np.int64]:
    """Return the numbers of the entities, below ``num_entities``, that no triple has; increasing.

    Published results rank the entities of the triples, and no others that a list may name.
    """
    is_mentioned = np.zeros(num_entities, np.bool_)
    for some in triples:
        is_mentioned[some[:, [Part.HEAD, Part.TAIL]]] = True
    return np.flatnonzero(~is_mentioned)


def query_batches(queries: Queries, size: int) -> Iterator[slice]:
    """Yield ranges of queries."""
    for start in range(0, len(queries), size):
        yield slice(start, min(start + size, len(queries)))
