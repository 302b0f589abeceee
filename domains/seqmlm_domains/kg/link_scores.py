"""Scores of all entities for link queries, from a model: one encoder pass per query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm.data.packing import pack
from seqmlm.encoding import Encoding
from seqmlm.objectives.rows import Row
from seqmlm_domains.kg.linearisation import End, Part
from seqmlm_domains.kg.ranking import Queries, Ranks, Triples, query_batches, rank_answers
from seqmlm_domains.kg.scorer import EntityScorer, Normalise

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
        max_length: tokens of a query at most.
    """

    model: Model
    domain: KnowledgeGraphDomain
    scorer: EntityScorer
    max_length: int

    @classmethod
    def of(
        cls,
        model: Model,
        *,
        normalise: Normalise = "mean",
        end: End | None = None,
        max_length: int = 512,
    ) -> LinkScorer:
        """Prepare to score the entities of a model's graph.

        Args:
            model: of the domain ``kg``.
            normalise: see :meth:`EntityScorer.of`.
            end: what is scored after a name; as trained if None.
            max_length: tokens of a query at most.
        """
        from seqmlm_domains.kg.domain import require_graph_domain

        domain = require_graph_domain(model.domain)
        slots = domain.linearisation.slots
        scorer = EntityScorer.of(
            domain.graph.entities,
            slots if end is None else replace(slots, end=end),
            normalise=normalise,
        )
        return cls(model, domain, scorer.to(model.device), max_length)

    def columns(self, missing: Part, known: npt.NDArray[np.int64]) -> Tensor:
        """Encode queries and project their slots; float32 ``[columns, queries]``, nats.

        Args:
            missing: head or tail.
            known: int64 ``[queries, 2]``, the known entity and the relation.
        """
        encodings = [self._query(missing, entity, relation) for entity, relation in known.tolist()]
        batch = pack([Row.of(encoding) for encoding in encodings]).to(self.model.device)
        total = self.domain.linearisation.slots.total
        starts = np.array(
            [self.domain.linearisation.slot_start(encoding, missing) for encoding in encodings]
        )
        first = batch.cu_seqlens[:-1].long() + torch.from_numpy(starts).to(self.model.device)
        slot_rows = first[:, None] + torch.arange(total, device=self.model.device)
        with self.model.inference():
            hidden = self.model(batch)
            return self.scorer.column_log_likelihoods(self.model, hidden, slot_rows)

    def rank(
        self, triples: Triples, *, known_triples: Triples
    ) -> Iterator[tuple[Part, Ranks, npt.NDArray[np.int64]]]:
        """Yield filtered ranks of the heads and tails of triples, some queries at a time.

        Args:
            triples: int64 ``[n, 3]``, numbers of head, relation and tail.
            known_triples: int64 ``[m, 3]``, whose answers are no candidates.

        Yields:
            The missing part, ranks, and the triples they belong to.
        """
        for missing in (Part.HEAD, Part.TAIL):
            queries = Queries.of(triples, missing, known_triples=known_triples)
            for batch in query_batches(queries, QUERIES_PER_BATCH):
                columns = self.columns(missing, queries.known[batch])
                ranks, which = rank_answers(
                    queries,
                    batch.start,
                    partial(self.scorer.score, columns),
                    num_entities=self.scorer.num_entities,
                    device=columns.device,
                )
                yield missing, ranks, which

    def _query(self, missing: Part, entity: int, relation: int) -> Encoding:
        """The sequence of a query: all slots of the missing entity hold the mask token."""
        triple = (0, relation, entity) if missing == Part.HEAD else (entity, relation, 0)
        encoding = self.domain.linearisation.encode(triple, missing, max_length=self.max_length)
        encoding.ids[encoding.unit_ids >= 0] = self.domain.vocabulary.special.mask
        return encoding


def ranks_of(scorer: LinkScorer, triples: Triples, *, known_triples: Triples) -> dict[Part, Ranks]:
    """Return the ranks of all triples by missing part, in the order of the triples."""
    found = {part: np.zeros((3, len(triples)), np.int64) for part in (Part.HEAD, Part.TAIL)}
    for part, ranks, which in scorer.rank(triples, known_triples=known_triples):
        found[part][:, which] = (ranks.optimistic, ranks.pessimistic, ranks.candidates)
    return {part: Ranks(*columns) for part, columns in found.items()}


def numbered(domain: KnowledgeGraphDomain, triples: Sequence[tuple[str, str, str]]) -> Triples:
    """Return triples as numbers, int64 ``[n, 3]``.

    Raises:
        DataError: an entity or relation is unknown; names similar ones.
    """
    rows = [[domain.number(triple[part], part) for part in Part] for triple in triples]
    return np.array(rows, np.int64).reshape(-1, 3)
