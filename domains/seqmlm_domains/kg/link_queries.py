"""Questions to a graph that a model scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seqmlm.errors import ConfigError
from seqmlm_domains.kg.answers import Answer, KnownAnswers, Numbers, best_entities, best_relations
from seqmlm_domains.kg.arguments import share, whole_number
from seqmlm_domains.kg.calibration import Calibration
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.link_scores import LinkScorer
from seqmlm_domains.kg.masked_relation import has_learned_relations
from seqmlm_domains.kg.predictions import EntityPrediction, RelationPrediction
from seqmlm_domains.kg.queries import (
    Prediction,
    Query,
    candidate_numbers,
    known_parts,
    missing_part,
    predictions_of,
    types_by_entity,
)


class LinkQueries:
    """Predicts the missing part of triples.

    Args:
        scorer: of the entities of a trained model's graph.
        answers: by part, what is known to be true already.
        calibration: of the probabilities of entities.
        relation_calibration: of those of relations.
    """

    def __init__(
        self,
        scorer: LinkScorer,
        *,
        answers: Mapping[Part, KnownAnswers],
        calibration: Calibration,
        relation_calibration: Calibration,
    ) -> None:
        self._scorer, self._domain = scorer, scorer.domain
        self._answers = answers
        self._calibration, self._relation_calibration = calibration, relation_calibration
        self._types: dict[str, frozenset[str]] = {}

    @property
    def entities(self) -> tuple[str, ...]:
        """Identifiers of all entities."""
        return self._domain.graph.entities.identifiers

    @property
    def relations(self) -> tuple[str, ...]:
        """Identifiers of all relations."""
        return self._domain.graph.relations

    @property
    def calibration(self) -> Calibration:
        """How scores of entities become probabilities, and how far those are off."""
        return self._calibration

    @property
    def own_weight(self) -> float | None:
        """What own tokens of entities count against their text; None where all tokens are alike."""
        return self._scorer.own_weight

    def set_entity_types(self, types: Mapping[str, Sequence[str]]) -> None:
        """Say what types entities have, for ``candidate_type``; replaces what was said before.

        Args:
            types: by identifier of an entity; those that the graph does not know play no part.

        Raises:
            ConfigError: the types of an entity are no list of strings.
        """
        self._types = types_by_entity(types)

    def predict_tails(
        self,
        head: str,
        relation: str,
        *,
        top_k: int = 10,
        filtered: bool = False,
        candidates: Sequence[str] | None = None,
        candidate_type: str | None = None,
        abstain_below: float = 0.0,
    ) -> list[EntityPrediction]:
        """Return the best tails, best first; see :meth:`predict_many` for the arguments."""
        found = self.predict_many(
            [(head, relation, None)],
            top_k=top_k,
            filtered=filtered,
            candidates=candidates,
            candidate_type=candidate_type,
            abstain_below=abstain_below,
        )
        return [item for item in found[0] if isinstance(item, EntityPrediction)]

    def predict_heads(
        self,
        relation: str,
        tail: str,
        *,
        top_k: int = 10,
        filtered: bool = False,
        candidates: Sequence[str] | None = None,
        candidate_type: str | None = None,
        abstain_below: float = 0.0,
    ) -> list[EntityPrediction]:
        """Return the best heads, best first; see :meth:`predict_many` for the arguments."""
        found = self.predict_many(
            [(None, relation, tail)],
            top_k=top_k,
            filtered=filtered,
            candidates=candidates,
            candidate_type=candidate_type,
            abstain_below=abstain_below,
        )
        return [item for item in found[0] if isinstance(item, EntityPrediction)]

    def predict_relations(
        self,
        head: str,
        tail: str,
        *,
        top_k: int = 10,
        filtered: bool = False,
        candidates: Sequence[str] | None = None,
        abstain_below: float = 0.0,
    ) -> list[RelationPrediction]:
        """Return the best relations, best first; see :meth:`predict_many` for the arguments."""
        found = self.predict_many(
            [(head, None, tail)],
            top_k=top_k,
            filtered=filtered,
            candidates=candidates,
            abstain_below=abstain_below,
        )
        return [item for item in found[0] if isinstance(item, RelationPrediction)]

    def predict_many(
        self,
        queries: Sequence[Query],
        *,
        top_k: int = 10,
        filtered: bool = False,
        candidates: Sequence[str] | None = None,
        candidate_type: str | None = None,
        abstain_below: float = 0.0,
    ) -> list[list[Prediction]]:
        """Return the best answers to many queries, which may ask for different parts.

        One encoder pass per different query. Answers are in the order of their scores; where
        names differ in length, the calibrated probability may order them otherwise.

        Args:
            queries: triples in which None stands for what is asked for.
            top_k: answers to each, at least 1; fewer if there are fewer candidates.
            filtered: whether what training and validation triples state is no candidate.
            candidates: identifiers to choose from; all if None.
            candidate_type: only entities of this type; see :meth:`set_entity_types`.
            abstain_below: no answer at all where the best one's probability is less.

        Raises:
            ConfigError: an argument is out of range or of another type, or candidates are given to
                queries for entities and for relations at once.
            DataError: an identifier or type is unknown.
        """
        whole_number("top_k", top_k, least=1)
        share("abstain_below", abstain_below)
        by_part: dict[Part, list[int]] = {}
        for number, query in enumerate(queries):
            by_part.setdefault(missing_part(query), []).append(number)
        if candidates is not None and Part.RELATION in by_part and len(by_part) > 1:
            raise ConfigError(
                "candidates: some queries ask for an entity and some for a relation; no list fits "
                "both. Ask them apart."
            )
        answers: dict[int, list[Prediction]] = {}
        for missing, numbers in by_part.items():
            found = self._answer(
                missing,
                known_parts(self._domain, [queries[number] for number in numbers], missing),
                excluded=self._answers[missing] if filtered else None,
                candidates=candidate_numbers(
                    self._domain,
                    missing,
                    candidates=candidates,
                    candidate_type=candidate_type,
                    types=self._types,
                ),
                top_k=top_k,
            )
            for number, answer in zip(numbers, found, strict=True):
                items = predictions_of(self._domain, missing, answer)
                is_sure = bool(items) and items[0].probability >= abstain_below
                answers[number] = [*items] if is_sure else []
        return [answers[number] for number in range(len(queries))]

    def _answer(
        self,
        missing: Part,
        known: Numbers,
        *,
        excluded: KnownAnswers | None,
        candidates: Numbers | None,
        top_k: int,
    ) -> list[Answer]:
        if missing != Part.RELATION:
            return best_entities(
                self._scorer, self._calibration, missing, known,
                excluded=excluded, candidates=candidates, top_k=top_k,
            )  # fmt: skip
        if not has_learned_relations(self._scorer.model):
            raise ConfigError(
                "This model was trained with domain.relation_share = 0: it never had to predict a "
                "relation. Train one that has to: `seqmlm train --domain kg --set "
                "domain.relation_share=0.1`, or settings={'domain.relation_share': 0.1} of "
                "LinkPredictor.fit."
            )
        return best_relations(
            self._scorer, self._relation_calibration, known,
            excluded=excluded, candidates=candidates, top_k=top_k,
        )  # fmt: skip
