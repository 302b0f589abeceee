"""Ranks to the numbers that the field compares: MRR, hits, mean rank and its adjusted index."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.ranking import Ranks, Triples

RankType = Literal["optimistic", "realistic", "pessimistic"]
Category = Literal["1-1", "1-N", "N-1", "N-N"]

MANY: Final = 1.5
"""More answers per question than this, on average, are many (Bordes et al., NeurIPS 2013)."""

BOOTSTRAP_SAMPLES: Final = 1000


@dataclass(frozen=True, slots=True)
class RankMetrics:
    """Summary of some ranks; NaN without any.

    Args:
        count: ranks.
        mrr: mean reciprocal rank, in (0, 1].
        hits_at_1: share of ranks of at most 1; likewise the next two.
        hits_at_3: of at most 3.
        hits_at_10: of at most 10.
        mean_rank: 1 or more.
        adjusted_mean_rank_index: 1 for perfect ranks, 0 for those of random scores, below for
            worse (Berrendorf et al., arXiv 2002.06914); comparable between graphs.
    """

    count: int
    mrr: float
    hits_at_1: float
    hits_at_3: float
    hits_at_10: float
    mean_rank: float
    adjusted_mean_rank_index: float

    @classmethod
    def of(cls, ranks: npt.NDArray[np.float64], candidates: npt.NDArray[np.int64]) -> RankMetrics:
        """Summarise ranks float64 ``[n]`` among as many candidates each, int64 ``[n]``."""
        if not len(ranks):
            return cls(0, *[float("nan")] * 6)
        mean_rank = float(ranks.mean())
        random_mean_rank = float((candidates + 1).mean() / 2)
        index = 1.0
        if random_mean_rank > 1:
            index = 1 - (mean_rank - 1) / (random_mean_rank - 1)
        return cls(
            len(ranks),
            float((1 / ranks).mean()),
            float((ranks <= 1).mean()),
            float((ranks <= 3).mean()),
            float((ranks <= 10).mean()),
            mean_rank,
            index,
        )


@dataclass(frozen=True, slots=True)
class RankTypes:
    """The same ranks with ties counted in three ways.

    Args:
        optimistic: the answer before all that tie with it.
        realistic: the mean of both; the one to quote (Sun et al., ACL 2020).
        pessimistic: the answer after all that tie with it.
        tie_rate: share of answers that tie with another candidate.
    """

    optimistic: RankMetrics
    realistic: RankMetrics
    pessimistic: RankMetrics
    tie_rate: float

    @classmethod
    def of(cls, ranks: Ranks, chosen: npt.NDArray[np.bool_] | None = None) -> RankTypes:
        """Summarise ranks, or those that bool ``[n]`` marks."""
        which = slice(None) if chosen is None else chosen
        candidates = ranks.candidates[which]
        optimistic, pessimistic = ranks.optimistic[which], ranks.pessimistic[which]
        ties = float((optimistic != pessimistic).mean()) if len(optimistic) else float("nan")
        return cls(
            RankMetrics.of(optimistic.astype(np.float64), candidates),
            RankMetrics.of(ranks.realistic[which], candidates),
            RankMetrics.of(pessimistic.astype(np.float64), candidates),
            ties,
        )


@dataclass(frozen=True)
class RankingReport:
    """How well true heads and tails are ranked among all entities, known answers left out.

    Args:
        both: head and tail together.
        head: ranks of true heads.
        tail: ranks of true tails.
        mrr_interval: 95 % bootstrap interval of the realistic MRR of ``both``.
        by_relation: by identifier.
        by_category: of the relation: how many heads and tails it usually has.
        unseen: heads and tails of triples with an entity that no training triple has; count 0 if
            there are none. It mixes the next two, which are different questions.
        unseen_answers: those that no training triple has: was somebody found whom nobody trained
            on?
        unseen_queries: answers that training knows, to queries about an entity that it does not.
        copy_the_reverse: realistic MRR of answering with what the reversed triple says in
            training.
        collision_rate: share of the entities whose name another one has.
        name_tie_rate: share of the entities that the model cannot tell from another one.
        num_entities: candidates.
    """

    both: RankTypes
    head: RankTypes
    tail: RankTypes
    mrr_interval: tuple[float, float]
    by_relation: dict[str, RankTypes]
    by_category: dict[str, RankTypes]
    unseen: RankTypes
    unseen_answers: RankTypes
    unseen_queries: RankTypes
    copy_the_reverse: float
    collision_rate: float
    name_tie_rate: float
    num_entities: int

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values; what no rank says anything about is null.

        The keys are the arguments of this class, of :class:`RankTypes` and of
        :class:`RankMetrics`: ``["unseen_answers"]["realistic"]["mrr"]``.
        """
        content: dict[str, Any] = _without_nan(asdict(self))
        return content


def joined(ranks: dict[Part, Ranks]) -> Ranks:
    """Return the ranks of heads and then those of tails."""
    head, tail = ranks[Part.HEAD], ranks[Part.TAIL]
    return Ranks(
        np.concatenate([head.optimistic, tail.optimistic]),
        np.concatenate([head.pessimistic, tail.pessimistic]),
        np.concatenate([head.candidates, tail.candidates]),
    )


def bootstrap_interval(values: npt.NDArray[np.float64], *, seed: int = 0) -> tuple[float, float]:
    """Return the 2.5 and 97.5 % quantiles of the mean over resamples of ``values``, ``[n]``.

    :data:`BOOTSTRAP_SAMPLES` resamples; NaN without values.
    """
    if not len(values):
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    means = [
        values[generator.integers(len(values), size=len(values))].mean()
        for _ in range(BOOTSTRAP_SAMPLES)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def relation_categories(triples: Triples, num_relations: int) -> list[Category]:
    """Return for each relation whether its heads have many tails, and its tails many heads.

    Args:
        triples: int64 ``[n, 3]``, of training.
        num_relations: relations without a triple count as 1-1.
    """
    categories: list[Category] = []
    for relation in range(num_relations):
        own = triples[triples[:, Part.RELATION] == relation]
        heads, tails = (max(len(np.unique(own[:, part])), 1) for part in (Part.HEAD, Part.TAIL))
        many_tails, many_heads = len(own) / heads > MANY, len(own) / tails > MANY
        kinds: dict[tuple[bool, bool], Category] = {
            (False, False): "1-1",
            (False, True): "1-N",
            (True, False): "N-1",
            (True, True): "N-N",
        }
        categories.append(kinds[many_heads, many_tails])
    return categories


def copy_the_reverse(
    triples: Triples, training: Triples, ranks: dict[Part, Ranks], *, known_triples: Triples
) -> float:
    """Return the realistic MRR of answering with the entities that the reversed triple names.

    Every entity e with (e, relation, known) reversed in training scores 1, all others 0; ties are
    broken at random. On WN18RR a third of the test triples are so answered.

    Args:
        triples: int64 ``[n, 3]``, asked for.
        training: int64 ``[m, 3]``.
        ranks: of the same triples; gives the number of candidates.
        known_triples: whose answers are no candidates; those of ``triples`` themselves need not be
            among them.
    """
    stated = {tuple(triple) for triple in training.tolist()}
    known = {tuple(triple) for triple in [*known_triples.tolist(), *triples.tolist()]}
    partners: dict[Part, dict[tuple[int, int], set[int]]] = {Part.HEAD: {}, Part.TAIL: {}}
    for head, relation, tail in training.tolist():
        partners[Part.TAIL].setdefault((tail, relation), set()).add(head)
        partners[Part.HEAD].setdefault((head, relation), set()).add(tail)
    reciprocal = []
    for part in (Part.HEAD, Part.TAIL):
        for index, (head, relation, tail) in enumerate(triples.tolist()):
            entity = tail if part == Part.HEAD else head
            proposed = {
                other
                for other in partners[part].get((entity, relation), ())
                if _statement(part, entity, relation, other) not in known
            }
            count = int(ranks[part].candidates[index])
            if (tail, relation, head) in stated:
                rank = (len(proposed) + 2) / 2
            else:
                rank = len(proposed) + (count - len(proposed) + 1) / 2
            reciprocal.append(1 / rank)
    return float(np.mean(reciprocal)) if reciprocal else float("nan")


def _statement(part: Part, entity: int, relation: int, other: int) -> tuple[int, int, int]:
    return (other, relation, entity) if part == Part.HEAD else (entity, relation, other)


def _without_nan(value: Any) -> Any:
    """None for NaN, which JSON cannot write, at any depth."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
