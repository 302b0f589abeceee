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
from seqmlm.errors import ConfigError
from seqmlm.objectives.rows import Row
from seqmlm_domains.kg.arguments import choice
from seqmlm_domains.kg.linearisation import UNKNOWN_ENTITY, End, Part, Slots, Wording
from seqmlm_domains.kg.ranking import (
    Queries,
    Ranks,
    Triples,
    query_batches,
    rank_answers,
    unmentioned,
)
from seqmlm_domains.kg.scorer import EntityScorer, Normalise, allowed_like
from seqmlm_domains.kg.text_scale import TextScale

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
        text_scale: see :meth:`EntityScorer.of`.
        max_length: tokens of a query at most.
    """

    model: Model
    domain: KnowledgeGraphDomain
    scorer: EntityScorer
    normalise: Normalise
    end: End
    own_weight: float | None
    text_scale: TextScale | None
    max_length: int
    _uninformed: dict[tuple[Part, int], Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def of(
        cls,
        model: Model,
        *,
        max_length: int,
        normalise: Normalise | None = None,
        end: End | None = None,
        own_weight: float | None = None,
        text_scale: TextScale | None = None,
    ) -> LinkScorer:
        """Prepare to score the entities of a model's graph.

        Args:
            model: of the domain ``kg``.
            max_length: tokens of a query at most: as many as in training.
            normalise: see :meth:`EntityScorer.of`; as the domain's options say if None.
            end: what is scored after a name; as trained if None.
            own_weight: see :meth:`EntityScorer.of`.
            text_scale: see :meth:`EntityScorer.of`.

        Raises:
            ConfigError: there is no such normalisation or end, or the model was trained without
                room for the end.
        """
        from seqmlm_domains.kg.domain import require_graph_domain

        domain = require_graph_domain(model.domain)
        slots = domain.linearisation.slots
        normalise = normalise or domain.options["normalise"]
        end = end or slots.end
        _check(normalise, end, slots)
        scorer = EntityScorer.of(
            domain.graph.entities,
            replace(slots, end=end),
            normalise=normalise,
            own_weight=own_weight,
            text_scale=text_scale,
        )
        return cls(
            model,
            domain,
            scorer.to(model.device),
            normalise,
            end,
            own_weight,
            text_scale,
            max_length,
        )

    def with_own_weight(self, own_weight: float | None) -> LinkScorer:
        """Return the same scorer with another weight of own tokens, and no scale of texts."""
        return self._with(own_weight, None)

    def with_text_scale(self, text_scale: TextScale | None) -> LinkScorer:
        """Return the same scorer with another scale of texts."""
        return self._with(self.own_weight, text_scale)

    def for_entities_of_graph(self) -> LinkScorer:
        """Return the same scorer for the entities that the graph has by now."""
        return self._with(self.own_weight, self.text_scale)

    @property
    def lengths(self) -> Tensor:
        """Tokens that an entity's probability may depend on, int64 ``[entities]``.

        1 each where own tokens have a weight of their own: such scores are on one scale already.
        """
        lengths = torch.diff(self.scorer.offsets)
        return lengths if self.own_weight is None else torch.ones_like(lengths)

    def _with(self, own_weight: float | None, text_scale: TextScale | None) -> LinkScorer:
        return LinkScorer.of(
            self.model,
            normalise=self.normalise,
            end=self.end,
            own_weight=own_weight,
            text_scale=text_scale,
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

        Candidates are the entities of the triples given, as in published results.

        Args:
            triples: int64 ``[n, 3]``, numbers of head, relation and tail.
            known_triples: int64 ``[m, 3]``, whose answers are no candidates.
            scorers: of the same columns; every query is encoded once for all of them. This one's
                own if None.

        Yields:
            The missing part, ranks by each scorer, and the triples they belong to.
        """
        excluded = unmentioned(self.scorer.num_entities, known_triples, triples)
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
                        excluded=excluded,
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


def _check(normalise: Normalise, end: End, slots: Slots) -> None:
    """Refuse names that do not exist, and an end that the slots of a name have no room for."""
    choice("normalise", normalise, Normalise)
    choice("end", end, End)
    if end != "ignore" and slots.end == "ignore" and slots.representation != "id":
        raise ConfigError(
            f"end = {end!r}: this model was trained with domain.end = 'ignore', so it never saw "
            "the end of a name. Score with 'ignore', or train one with 'eos' or 'pad'."
        )


def numbered(domain: KnowledgeGraphDomain, triples: Sequence[tuple[str, str, str]]) -> Triples:
    """Return triples as numbers, int64 ``[n, 3]``.

    Raises:
        DataError: an entity or relation is unknown; names similar ones.
    """
    rows = [[domain.number(triple[part], part) for part in Part] for triple in triples]
    return np.array(rows, np.int64).reshape(-1, 3)
