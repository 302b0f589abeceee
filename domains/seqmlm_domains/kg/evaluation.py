"""Link prediction on test triples: every triple counts, unseen entities too."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from seqmlm.data.report import ReadReport
from seqmlm.errors import DataError, suggestion
from seqmlm_domains.kg.domain import KnowledgeGraphDomain
from seqmlm_domains.kg.graph_folder import GraphFolder, entity_texts
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.link_scores import LinkScorer, ranks_of
from seqmlm_domains.kg.metrics import (
    RankingReport,
    RankTypes,
    bootstrap_interval,
    copy_the_reverse,
    joined,
    relation_categories,
)
from seqmlm_domains.kg.ranking import Ranks, Triples
from seqmlm_domains.kg.triples import NameAndDescription, StatedTriple, read_triples

logger = logging.getLogger("seqmlm")


def evaluate_links(
    scorer: LinkScorer, triples: Triples, *, training: Triples, known: Triples
) -> RankingReport:
    """Rank the true head and tail of every triple among the entities of ``known``.

    Args:
        scorer: of a trained model.
        triples: int64 ``[n, 3]``, to evaluate; see :func:`with_entities_of` for their entities.
        training: int64 ``[m, 3]``, what the model was trained on: for categories, unseen entities
            and the bar.
        known: int64 ``[k, 3]``, all whose answers are no candidates: training, validation and
            test.
    """
    ranks = ranks_of(scorer, triples, known_triples=known)
    return _report(scorer.domain, triples, training, known, ranks)


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


def read_test_triples(
    folder: Path, *, relations: Collection[str]
) -> tuple[list[StatedTriple], dict[str, NameAndDescription]]:
    """Return the test triples of a folder, and the texts of its entities.

    Args:
        folder: of a graph.
        relations: that can be asked about.

    Raises:
        DataError: it has no test triples, they cannot be read, or one has another relation.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: evaluation takes the test triples of one.")
    files = GraphFolder.find(folder)
    if files.test is None:
        raise DataError(f"{folder}: no test triples; looked for test.tsv and the like.")
    report = ReadReport()
    triples = []
    for triple in read_triples(files.test, report):
        if triple.relation not in relations:
            raise DataError(
                f"{triple.place}: the relation {triple.relation!r} has no training triple: nothing "
                f"can be asked about it.{suggestion(triple.relation, relations)}"
            )
        triples.append(triple.key)
    for line in report.lines():
        logger.info(line)
    return triples, entity_texts(files)


def warn_of_leakage(triples: Triples, training: Triples) -> None:
    """Log how many triples were trained on."""
    stated = {tuple(triple) for triple in training.tolist()}
    if leaked := sum(tuple(triple) in stated for triple in triples.tolist()):
        logger.warning(
            "%d of %d triples to evaluate are among the training triples: the result is too good",
            leaked,
            len(triples),
        )


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
    has_unseen_head = ~np.isin(asked[:, Part.HEAD], seen)
    has_unseen_tail = ~np.isin(asked[:, Part.TAIL], seen)
    # In the order of the ranks: heads are asked for first, then tails.
    is_unseen_answer = np.concatenate([has_unseen_head, has_unseen_tail])
    is_unseen_query = np.concatenate([has_unseen_tail, has_unseen_head])
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
        unseen=RankTypes.of(both, is_unseen_answer | is_unseen_query),
        unseen_answers=RankTypes.of(both, is_unseen_answer),
        unseen_queries=RankTypes.of(both, is_unseen_query & ~is_unseen_answer),
        copy_the_reverse=copy_the_reverse(asked, trained, ranks, known_triples=known_triples),
        collision_rate=graph.entities.num_collisions / entities,
        name_tie_rate=graph.entities.num_ties / entities,
        num_entities=len(np.unique(known_triples[:, [Part.HEAD, Part.TAIL]])),
    )
