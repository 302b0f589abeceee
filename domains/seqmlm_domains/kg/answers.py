"""The best candidates of link queries, with probabilities among all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm_domains.kg.calibration import Calibration
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.link_scores import QUERIES_PER_BATCH, LinkScorer
from seqmlm_domains.kg.ranking import ENTITIES_PER_CHUNK, Triples

Numbers = npt.NDArray[np.int64]

KNOWN_PARTS = {
    Part.HEAD: (Part.TAIL, Part.RELATION),
    Part.RELATION: (Part.HEAD, Part.TAIL),
    Part.TAIL: (Part.HEAD, Part.RELATION),
}
"""What a query for a part gives, in this order."""


@dataclass(frozen=True)
class KnownAnswers:
    """Which answers some triples give to any query for one part.

    Args:
        keys: int64 ``[triples]``, increasing: both known parts as one number.
        answers: int64 ``[triples]``, in the same order.
        size: numbers of the second known part are below.
    """

    keys: Numbers
    answers: Numbers
    size: int

    @classmethod
    def of(cls, triples: Triples, missing: Part) -> KnownAnswers:
        """Index triples, int64 ``[n, 3]``, by what a query for ``missing`` gives."""
        first, second = KNOWN_PARTS[missing]
        size = int(triples[:, second].max(initial=-1)) + 1
        keys = triples[:, first] * size + triples[:, second]
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], triples[order, missing], size)

    def __call__(self, query: Sequence[int]) -> Numbers:
        """Return the answers to a query of two known parts."""
        if query[1] >= self.size:
            return self.answers[:0]
        key = query[0] * self.size + query[1]
        begin, end = np.searchsorted(self.keys, [key, key + 1])
        return self.answers[begin:end]


@dataclass(frozen=True)
class Answer:
    """The best candidates of one query, best first.

    Args:
        numbers: int64 ``[k]``, of entities or relations.
        scores: float64 ``[k]``, nats.
        probabilities: float64 ``[k]``, among all candidates.
    """

    numbers: Numbers
    scores: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]


def best_entities(
    scorer: LinkScorer,
    calibration: Calibration,
    missing: Part,
    known: Numbers,
    *,
    excluded: KnownAnswers | None,
    candidates: Numbers | None,
    top_k: int,
) -> list[Answer]:
    """Answer queries for a head or tail; equal queries are computed once.

    Memory: scores of :data:`~seqmlm_domains.kg.ranking.ENTITIES_PER_CHUNK` candidates at a time.

    Args:
        scorer: of the entities.
        calibration: of their scores.
        missing: head or tail.
        known: int64 ``[queries, 2]``, the known entity and the relation.
        excluded: answers that are no candidates; every entity is one if None.
        candidates: int64, increasing; all entities if None.
        top_k: candidates to return for each query.
    """
    different, inverse = np.unique(known, axis=0, return_inverse=True)
    lengths = scorer.lengths
    found: list[Answer] = []
    for start in range(0, len(different), QUERIES_PER_BATCH):
        queries = different[start : start + QUERIES_PER_BATCH]
        best = _Best(calibration, [_none() if excluded is None else excluded(q) for q in queries])
        columns = scorer.columns(missing, queries)
        for numbers, chosen in _chunks(scorer, candidates):
            scores = scorer.scorer.score(columns, chosen)
            best.add(scores, lengths[chosen], numbers, top_k=top_k)
        found += best.answers()
    return [found[query] for query in inverse.reshape(-1)]


def best_relations(
    scorer: LinkScorer,
    calibration: Calibration,
    known: Numbers,
    *,
    excluded: KnownAnswers | None,
    candidates: Numbers | None,
    top_k: int,
) -> list[Answer]:
    """Answer queries for a relation, as :func:`best_entities` does for entities.

    Args:
        scorer: its model is asked.
        calibration: of the scores of relations.
        known: int64 ``[queries, 2]``, head and tail.
        excluded: answers that are no candidates.
        candidates: int64, increasing; all relations if None.
        top_k: candidates to return for each query.
    """
    different, inverse = np.unique(known, axis=0, return_inverse=True)
    found: list[Answer] = []
    for start in range(0, len(different), QUERIES_PER_BATCH):
        queries = different[start : start + QUERIES_PER_BATCH]
        best = _Best(calibration, [_none() if excluded is None else excluded(q) for q in queries])
        scores = scorer.relation_log_likelihoods(queries).T
        numbers = np.arange(len(scores)) if candidates is None else candidates
        lengths = torch.ones(len(numbers), dtype=torch.int64, device=scores.device)
        best.add(scores[torch.from_numpy(numbers).to(scores.device)], lengths, numbers, top_k=top_k)
        found += best.answers()
    return [found[query] for query in inverse.reshape(-1)]


class _Best:
    """The best candidates of some queries so far, and the normaliser of all of them."""

    def __init__(self, calibration: Calibration, excluded: Sequence[Numbers]) -> None:
        self._calibration = calibration
        self._excluded = np.concatenate(excluded)
        self._column = np.repeat(np.arange(len(excluded)), [len(each) for each in excluded])
        self._normaliser = torch.full((len(excluded),), -torch.inf)
        self._scores = torch.empty(0, len(excluded))
        self._logits = torch.empty(0, len(excluded))
        self._numbers = torch.empty(0, len(excluded), dtype=torch.int64)

    def add(self, scores: Tensor, lengths: Tensor, numbers: Numbers, *, top_k: int) -> None:
        """Take in candidates: float32 ``[candidates, queries]``, their tokens, their numbers."""
        place = np.searchsorted(numbers, self._excluded).clip(max=max(len(numbers) - 1, 0))
        here = numbers[place] == self._excluded if len(numbers) else place < 0
        scores = scores.clone()
        scores[place[here], self._column[here]] = -torch.inf
        logits = self._calibration.logits(scores, lengths)
        self._normaliser = torch.logaddexp(self._normaliser, logits.logsumexp(0).cpu())
        top, rows = scores.topk(min(top_k, len(scores)), dim=0)
        self._scores = torch.cat([self._scores, top.cpu()])
        self._logits = torch.cat([self._logits, logits.gather(0, rows).cpu()])
        self._numbers = torch.cat([self._numbers, torch.from_numpy(numbers)[rows.cpu()]])
        kept, rows = self._scores.topk(min(top_k, len(self._scores)), dim=0)
        self._scores, self._logits = kept, self._logits.gather(0, rows)
        self._numbers = self._numbers.gather(0, rows)

    def answers(self) -> Iterator[Answer]:
        """Yield what was found, query by query; without what is no candidate."""
        probabilities = (self._logits - self._normaliser).double().exp()
        for query in range(self._scores.shape[1]):
            keep = torch.isfinite(self._scores[:, query])
            yield Answer(
                self._numbers[keep, query].numpy(),
                self._scores[keep, query].double().numpy(),
                probabilities[keep, query].numpy(),
            )


def _chunks(
    scorer: LinkScorer, candidates: Numbers | None
) -> Iterator[tuple[Numbers, slice | Tensor]]:
    """Numbers of candidates, and how the scorer is asked for them."""
    total = scorer.scorer.num_entities if candidates is None else len(candidates)
    for start in range(0, total, ENTITIES_PER_CHUNK):
        stop = min(start + ENTITIES_PER_CHUNK, total)
        if candidates is None:
            yield np.arange(start, stop), slice(start, stop)
        else:
            numbers = candidates[start:stop]
            yield numbers, torch.from_numpy(numbers).to(scorer.model.device)


def _none() -> Numbers:
    return np.empty(0, np.int64)
