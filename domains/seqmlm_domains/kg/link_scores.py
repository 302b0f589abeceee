"""Scores of all entities for link queries, from a model: one encoder pass per query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm.data.packing import pack
from seqmlm.encoding import Encoding
from seqmlm.objectives.rows import Row
from seqmlm_domains.kg.linearisation import UNKNOWN_ENTITY, End, Part, Wording
from seqmlm_domains.kg.ranking import Queries, Ranks, Triples, query_batches, rank_answers
from seqmlm_domains.kg.scorer import EntityScorer, Normalise, allowed_like

if TYPE_CHECKING:
    from seqmlm.model.model import Model
    from seqmlm_domains.kg.domain import KnowledgeGraphDomain

QUERIES_PER_BATCH = 32
"""The gathered columns of so many queries stay in a core's cache (kg.md 6.3: 32 of 2 MB)."""


@dataclass(frozen=True)
class LinkScorer:
    """A model and how it scores entities.

    Args:
        model: trained on a graph.
        domain: of the model.
        scorer: of the graph's entities.
        normalise: see :meth:`EntityScorer.of`.
        end: what is scored after a name.
        own_weight: see :meth:`EntityScorer.of`.
        max_length: tokens of a query at most.
    """

    model: Model
    domain: KnowledgeGraphDomain
    scorer: EntityScorer
    normalise: Normalise
    end: End
    own_weight: float | None
    max_length: int
    _uninformed: dict[tuple[Part, int], Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def of(
        cls,
        model: Model,
        *,
        normalise: Normalise = "mean",
        end: End | None = None,
        own_weight: float | None = None,
        max_length: int = 512,
    ) -> LinkScorer:
        """Prepare to score the entities of a model's graph.

        Args:
            model: of the domain ``kg``.
            normalise: see :meth:`EntityScorer.of`.
            end: what is scored after a name; as trained if None.
            own_weight: see :meth:`EntityScorer.of`.
            max_length: tokens of a query at most.
        """
        from seqmlm_domains.kg.domain import require_graph_domain

        domain = require_graph_domain(model.domain)
        slots = domain.linearisation.slots
        end = end or slots.end
        scorer = EntityScorer.of(
            domain.graph.entities,
            replace(slots, end=end),
            normalise=normalise,
            own_weight=own_weight,
        )
        return cls(model, domain, scorer.to(model.device), normalise, end, own_weight, max_length)

    def with_own_weight(self, own_weight: float | None) -> LinkScorer:
        """Return the same scorer with another weight of own tokens."""
        return LinkScorer.of(
            self.model,
            normalise=self.normalise,
            end=self.end,
            own_weight=own_weight,
            max_length=self.max_length,
        )

    def columns(self, missing: Part, known: npt.NDArray[np.int64]) -> Tensor:
        """Encode queries and project their slots; float32 ``[columns, queries]``, nats.

        Args:
            missing: head or tail.
            known: int64 ``[queries, 2]``, the known entity and the relation.
        """
        queries = [self.encodings(missing, entity, relation) for entity, relation in known.tolist()]
        columns = self.columns_of(queries, missing)
        if self.normalise != "pmi":
            return columns
        uninformed = [self.uninformed(missing, relation) for relation in known[:, 1].tolist()]
        return columns - torch.stack(uninformed, 1)

    def uninformed(self, missing: Part, relation: int) -> Tensor:
        """Return the columns if nothing but the relation is known, float32 ``[columns]``.

        Computed once.
        """
        if (missing, relation) not in self._uninformed:
            query = self.encodings(missing, UNKNOWN_ENTITY, relation)
            self._uninformed[missing, relation] = self.columns_of([query], missing)[:, 0]
        return self._uninformed[missing, relation]

    def relation_log_likelihoods(self, known: npt.NDArray[np.int64]) -> Tensor:
        """Return log p of every relation, float32 ``[queries, relations]``, nats.

        Args:
            known: int64 ``[queries, 2]``, head and tail.
        """
        line = self.domain.linearisation
        queries = [(self._query(Part.RELATION, (head, 0, tail)),) for head, tail in known.tolist()]
        tokens = line.relation_tokens.astype(np.int64)
        with self.model.inference():
            hidden, rows = self._encode(queries, Part.RELATION, slots=(1,))
            likelihoods = self.model.token_head.log_probabilities(
                hidden,
                rows[:, 0],
                torch.from_numpy(tokens).to(hidden.device).expand(len(known), len(tokens)),
                allowed=allowed_like(self.model, tokens),
                backend=self.model.encoder.backend,
            )
        return likelihoods.float()

    def encodings(self, missing: Part, entity: int, relation: int) -> tuple[Encoding, ...]:
        """Return the sequences that ask for the missing entity; slots hold the mask token.

        One for each of :attr:`Slots.wordings`.
        """
        triple = (0, relation, entity) if missing == Part.HEAD else (entity, relation, 0)
        wordings = self.domain.linearisation.slots.wordings
        return tuple(self._query(missing, triple, wording) for wording in wordings)

    def columns_of(self, queries: Sequence[Sequence[Encoding]], missing: Part) -> Tensor:
        """Encode sequences as :meth:`encodings` gives them; float32 ``[columns, queries]``, nats.

        All sequences of all queries are one batch of the encoder.
        """
        slots = self.domain.linearisation.slots
        lengths = [len(slots.of_wording(wording)) for wording in slots.wordings]
        with self.model.inference():
            hidden, slot_rows = self._encode(queries, missing, slots=lengths)
            return self.scorer.column_log_likelihoods(self.model, hidden, slot_rows)

    def _encode(
        self, queries: Sequence[Sequence[Encoding]], missing: Part, *, slots: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Hidden states, and int64 ``[queries, slots]``, which of them the slots have."""
        device = self.model.device
        encodings = [encoding for query in queries for encoding in query]
        batch = pack([Row.of(encoding) for encoding in encodings]).to(device)
        line = self.domain.linearisation
        starts = np.array([line.slot_start(encoding, missing) for encoding in encodings])
        first = batch.cu_seqlens[:-1].long() + torch.from_numpy(starts).to(device)
        first = first.reshape(len(queries), len(slots))
        rows = [
            first[:, number : number + 1] + torch.arange(length, device=device)
            for number, length in enumerate(slots)
        ]
        return self.model(batch), torch.cat(rows, 1)

    def rank(
        self,
        triples: Triples,
        *,
        known_triples: Triples,
        scorers: Sequence[EntityScorer] | None = None,
    ) -> Iterator[tuple[Part, list[Ranks], npt.NDArray[np.int64]]]:
        """Yield filtered ranks of the heads and tails of triples, some queries at a time.

        Args:
            triples: int64 ``[n, 3]``, numbers of head, relation and tail.
            known_triples: int64 ``[m, 3]``, whose answers are no candidates.
            scorers: of the same columns; every query is encoded once for all of them. This one's
                own if None.

        Yields:
            The missing part, ranks by each scorer, and the triples they belong to.
        """
        for missing in (Part.HEAD, Part.TAIL):
            queries = Queries.of(triples, missing, known_triples=known_triples)
            for batch in query_batches(queries, QUERIES_PER_BATCH):
                columns = self.columns(missing, queries.known[batch])
                found = [
                    rank_answers(
                        queries,
                        batch.start,
                        partial(scorer.score, columns),
                        num_entities=scorer.num_entities,
                        device=columns.device,
                    )
                    for scorer in scorers or [self.scorer]
                ]
                yield missing, [ranks for ranks, _ in found], found[0][1]

    def _query(
        self, missing: Part, triple: tuple[int, int, int], wording: Wording | None = None
    ) -> Encoding:
        encoding = self.domain.linearisation.encode(
            triple, missing, max_length=self.max_length, wording=wording
        )
        encoding.ids[encoding.unit_ids >= 0] = self.domain.vocabulary.special.mask
        return encoding


def ranks_of(scorer: LinkScorer, triples: Triples, *, known_triples: Triples) -> dict[Part, Ranks]:
    """Return the ranks of all triples by missing part, in the order of the triples."""
    (found,) = ranks_by_scorer(scorer, triples, known_triples=known_triples)
    return found


def ranks_by_scorer(
    scorer: LinkScorer,
    triples: Triples,
    *,
    known_triples: Triples,
    scorers: Sequence[EntityScorer] | None = None,
) -> list[dict[Part, Ranks]]:
    """Return what :func:`ranks_of` does for each of some scorers; see :meth:`LinkScorer.rank`."""
    number = len(scorers or [scorer.scorer])
    found = {part: np.zeros((number, 3, len(triples)), np.int64) for part in (Part.HEAD, Part.TAIL)}
    for part, by_scorer, which in scorer.rank(
        triples, known_triples=known_triples, scorers=scorers
    ):
        for rows, ranks in zip(found[part], by_scorer, strict=True):
            rows[:, which] = (ranks.optimistic, ranks.pessimistic, ranks.candidates)
    return [
        {part: Ranks(*rows[scorer_number]) for part, rows in found.items()}
        for scorer_number in range(number)
    ]


def scores_of(scorer: LinkScorer, triples: Triples, missing: Part) -> npt.NDArray[np.float64]:
    """Return the score of the head or tail of each triple, float64 ``[n]``, nats.

    Equal queries are computed once.

    Args:
        scorer: of the entities.
        triples: int64 ``[n, 3]``.
        missing: head or tail.
    """
    other = Part.TAIL if missing == Part.HEAD else Part.HEAD
    known, query = np.unique(triples[:, [other, Part.RELATION]], axis=0, return_inverse=True)
    query = query.reshape(-1)
    scores = np.empty(len(triples))
    for start in range(0, len(known), QUERIES_PER_BATCH):
        columns = scorer.columns(missing, known[start : start + QUERIES_PER_BATCH])
        here = np.flatnonzero((query >= start) & (query < start + QUERIES_PER_BATCH))
        entities, place = np.unique(triples[here, missing], return_inverse=True)
        found = scorer.scorer.score(columns, torch.from_numpy(entities).to(columns.device))
        scores[here] = found.cpu().numpy()[place.reshape(-1), query[here] - start]
    return scores


def numbered(domain: KnowledgeGraphDomain, triples: Sequence[tuple[str, str, str]]) -> Triples:
    """Return triples as numbers, int64 ``[n, 3]``.

    Raises:
        DataError: an entity or relation is unknown; names similar ones.
    """
    rows = [[domain.number(triple[part], part) for part in Part] for triple in triples]
    return np.array(rows, np.int64).reshape(-1, 3)
