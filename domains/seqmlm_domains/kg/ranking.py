"""Filtered ranks of true answers among all entities, without a matrix of all scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

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
    queries: Queries, first: int, scores: Scores, *, num_entities: int, device: torch.device
) -> tuple[Ranks, npt.NDArray[np.int64]]:
    """Rank the true answers of the queries that ``scores`` holds.

    Memory: scores of :data:`ENTITIES_PER_CHUNK` entities at a time. Every comparison is between
    float32 numbers that the same sum has made: no tie is made or broken by rounding.

    Args:
        queries: of one direction.
        first: number of the query in column 0.
        scores: of entities for the queries in hand.
        num_entities: candidates.
        device: of the scores.

    Returns:
        Ranks of the answers of these queries, and the triples they belong to.
    """
    probe = scores(torch.zeros(1, dtype=torch.int64, device=device))
    count = probe.shape[1]
    answers, column = _part(queries.answers, queries.answer_offsets, first, count, device)
    filtered, filter_column = _part(queries.filtered, queries.filter_offsets, first, count, device)
    true = _pairs(scores, answers, column)
    known = _pairs(scores, filtered, filter_column)
    higher = torch.zeros(len(answers), dtype=torch.int64, device=device)
    at_least = torch.zeros_like(higher)
    for start in range(0, num_entities, ENTITIES_PER_CHUNK):
        chunk = scores(slice(start, min(start + ENTITIES_PER_CHUNK, num_entities))).T.contiguous()
        for index in range(len(answers)):
            row, score = chunk[column[index]], true[index]
            higher[index] += (row > score).sum()
            at_least[index] += (row >= score).sum()
    # Known answers are no candidates; the true one is among them and counts itself.
    same_query = column[:, None] == filter_column[None, :]
    higher -= (same_query & (known[None, :] > true[:, None])).sum(1)
    others = same_query & (filtered[None, :] != answers[:, None])
    at_least -= (others & (known[None, :] >= true[:, None])).sum(1)
    candidates = num_entities - others.sum(1)
    begin, end = queries.answer_offsets[first], queries.answer_offsets[first + count]
    ranks = Ranks((higher + 1).cpu().numpy(), at_least.cpu().numpy(), candidates.cpu().numpy())
    return ranks, queries.triples[begin:end]


def _pairs(scores: Scores, entities: Tensor, column: Tensor) -> Tensor:
    """The score of each entity in its own query."""
    distinct, inverse = torch.unique(entities, return_inverse=True)
    return scores(distinct)[inverse, column]


def _part(
    values: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    first: int,
    count: int,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """The values of some queries, and the column of each."""
    begin, end = offsets[first], offsets[first + count]
    lengths = np.diff(offsets[first : first + count + 1])
    columns = np.repeat(np.arange(count), lengths)
    return (
        torch.from_numpy(np.ascontiguousarray(values[begin:end])).to(device),
        torch.from_numpy(columns).to(device),
    )


def _offsets(groups: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    sizes = np.bincount(groups, minlength=count)
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _find(rows: npt.NDArray[np.int64], known: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each row of two numbers stands in ``known``, which is sorted; -1 if nowhere."""
    size = int(max(rows.max(initial=0), known.max(initial=0))) + 1
    keys, wanted = known[:, 0] * size + known[:, 1], rows[:, 0] * size + rows[:, 1]
    place = np.searchsorted(keys, wanted).clip(max=max(len(keys) - 1, 0))
    return np.where(keys[place] == wanted, place, -1)


def query_batches(queries: Queries, size: int) -> Iterator[slice]:
    """Yield ranges of queries."""
    for start in range(0, len(queries), size):
        yield slice(start, min(start + size, len(queries)))
