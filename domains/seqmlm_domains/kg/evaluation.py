"""Link prediction on test triples: every triple counts, unseen entities too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from seqmlm.errors import DataError, suggestion
from seqmlm_domains.kg.domain import KnowledgeGraphDomain
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.link_scores import LinkScorer, numbered, ranks_of
from seqmlm_domains.kg.metrics import (
    RankingReport,
    RankTypes,
    bootstrap_interval,
    copy_the_reverse,
    joined,
    relation_categories,
)
from seqmlm_domains.kg.ranking import Ranks, Triples
from seqmlm_domains.kg.triples import NameAndDescription

StatedTriple = tuple[str, str, str]


def evaluate_links(
    scorer: LinkScorer,
    triples: Sequence[StatedTriple],
    *,
    training: Sequence[StatedTriple],
    known: Sequence[StatedTriple],
) -> RankingReport:
    """Rank the true head and tail of every triple among all entities of the scorer's graph.

    Entities that ``triples`` or ``known`` mention must be in the graph
    (:func:`with_entities_of`).

    Args:
        scorer: of a trained model.
        triples: to evaluate.
        training: what the model was trained on: for categories, unseen entities and the bar.
        known: all triples whose answers are no candidates: training, validation and test.

    Raises:
        DataError: an entity or relation is unknown.
    """
    domain = scorer.domain
    asked, trained = numbered(domain, triples), numbered(domain, training)
    known_triples = numbered(domain, known)
    ranks = ranks_of(scorer, asked, known_triples=known_triples)
    return _report(domain, asked, trained, known_triples, ranks)


def with_entities_of(
    domain: KnowledgeGraphDomain,
    triples: Sequence[StatedTriple],
    texts: Mapping[str, NameAndDescription],
) -> KnowledgeGraphDomain:
    """Add the entities of triples that the graph does not know, with their texts if any.

    Raises:
        DataError: a relation is unknown: nothing can be asked about it.
    """
    graph = domain.graph
    missing: dict[str, NameAndDescription] = {}
    for head, relation, tail in triples:
        if relation not in graph.relation_numbers:
            raise DataError(
                f"The relation {relation!r} of ({head}, {relation}, {tail}) has no training "
                f"triple.{suggestion(relation, graph.relation_numbers)}"
            )
        for entity in (head, tail):
            if entity not in graph.entities.numbers:
                missing[entity] = texts.get(entity, NameAndDescription(""))
    if missing:
        domain.use_graph(graph.with_entities(missing))
    return domain


def _report(
    domain: KnowledgeGraphDomain,
    asked: Triples,
    trained: Triples,
    known_triples: Triples,
    ranks: dict[Part, Ranks],
) -> RankingReport:
    graph = domain.graph
    both = joined(ranks)
    relations = np.tile(asked[:, Part.RELATION], 2)
    seen = np.unique(trained[:, [Part.HEAD, Part.TAIL]])
    is_unseen = ~(np.isin(asked[:, Part.HEAD], seen) & np.isin(asked[:, Part.TAIL], seen))
    categories = np.array(relation_categories(trained, len(graph.relations)))
    entities = max(len(graph.entities), 1)
    return RankingReport(
        both=RankTypes.of(both),
        head=RankTypes.of(ranks[Part.HEAD]),
        tail=RankTypes.of(ranks[Part.TAIL]),
        mrr_interval=bootstrap_interval(1 / both.realistic),
        by_relation={
            graph.relations[relation]: RankTypes.of(both, relations == relation)
            for relation in np.unique(relations)
        },
        by_category={
            category: RankTypes.of(both, categories[relations] == category)
            for category in ("1-1", "1-N", "N-1", "N-N")
        },
        unseen=RankTypes.of(both, np.tile(is_unseen, 2)),
        copy_the_reverse=copy_the_reverse(asked, trained, ranks, known_triples=known_triples),
        collision_rate=graph.entities.num_collisions / entities,
        name_tie_rate=graph.entities.num_ties / entities,
        num_entities=len(graph.entities),
    )
