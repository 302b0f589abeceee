"""What in a graph's files will distort the numbers of link prediction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from seqmlm.data.report import ReadReport
from seqmlm.errors import DataError
from seqmlm_domains.kg.graph_folder import GraphFolder, entity_texts
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.metrics import Category, relation_categories
from seqmlm_domains.kg.name_audit import NameAudit, audit_names
from seqmlm_domains.kg.ranking import Queries, Triples
from seqmlm_domains.kg.relation_overlap import RelationOverlap, relation_overlaps
from seqmlm_domains.kg.triples import Triple, read_triples

TRAIN: Final = "train"

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PartAudit:
    """One part of a graph, held against its training triples.

    Args:
        triples: different ones.
        duplicates: left out of ``triples``, as are those with an empty field.
        not_triples: lines with an empty field, and literals of RDF.
        unseen_entities: entities that no training triple has.
        unseen_entity_triples: triples with such an entity.
        unseen_relation_triples: triples whose relation no training triple has.
        in_training: triples that training has too.
        reversed_in_training: triples (h, r, t) where training has (t, r, h).
        reversed_pair_in_training: triples where training has t and h, in this order, under any
            relation.
        pair_in_training: triples where training has h and t under another relation.
        mean_true_tails: right answers to (h, r, ?) over all parts, mean over the triples.
        mean_true_heads: likewise to (?, r, t).
        queries: two per triple.
        unique_queries: different ones.
    """

    triples: int
    duplicates: int
    not_triples: int
    unseen_entities: int
    unseen_entity_triples: int
    unseen_relation_triples: int
    in_training: int
    reversed_in_training: int
    reversed_pair_in_training: int
    pair_in_training: int
    mean_true_tails: float
    mean_true_heads: float
    queries: int
    unique_queries: int

    def share(self, count: int) -> float:
        """Return a number of triples as a share of this part's; 0 if it has none."""
        return count / self.triples if self.triples else 0.0


@dataclass(frozen=True)
class GraphAudit:
    """The files of a graph, counted.

    Args:
        entities: in the triples of all parts.
        train_entities: in training triples.
        relations: in the triples of all parts.
        parts: by name: ``train`` and, if there are files, ``validation`` and ``test``.
        loops: triples, of all parts, whose head is their tail.
        categories: relations of each kind, by their training triples.
        overlaps: relations that state again what another one states, or its reverse.
        names: of the entities.
    """

    entities: int
    train_entities: int
    relations: int
    parts: dict[str, PartAudit]
    loops: int
    categories: dict[Category, int]
    overlaps: list[RelationOverlap]
    names: NameAudit

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return asdict(self)


def audit_graph(path: Path) -> GraphAudit:
    """Count what a graph's files hold, alone and against each other.

    Time and memory in proportion to the triples; names and descriptions are read and tokenised as
    the domain does by default.

    Args:
        path: folder with ``train`` and perhaps ``validation`` and ``test``.

    Raises:
        DataError: a file is missing, malformed or unreadable, or has no usable triple.
    """
    folder = GraphFolder.find(path)
    reports = {part: ReadReport() for part in folder.parts}
    stated = {part: list(read_triples(file, reports[part])) for part, file in folder.parts.items()}
    if not stated[TRAIN]:
        raise DataError(f"{folder.train}: no usable triple ({reports[TRAIN].summary()}).")
    everything = list(chain.from_iterable(stated.values()))
    entities = _numbers(end for triple in everything for end in (triple.head, triple.tail))
    relations = _numbers(triple.relation for triple in everything)
    numbered = {part: _numbered(triples, entities, relations) for part, triples in stated.items()}
    training, known = numbered[TRAIN], np.concatenate(list(numbered.values()))
    trained = _occur(training[:, Part.RELATION], len(relations))
    kinds = relation_categories(training, len(relations))
    return GraphAudit(
        entities=len(entities),
        train_entities=int(_occur(training[:, [Part.HEAD, Part.TAIL]], len(entities)).sum()),
        relations=len(relations),
        parts={
            part: _audit_part(triples, reports[part], training=training, known=known)
            for part, triples in numbered.items()
        },
        loops=int((known[:, Part.HEAD] == known[:, Part.TAIL]).sum()),
        categories=dict(Counter(kind for kind, is_trained in zip(kinds, trained, strict=True)
                                if is_trained)),
        overlaps=relation_overlaps(training, list(relations)),
        names=audit_names(list(entities), entity_texts(folder)),
        inputs=[*map(str, folder.parts.values())],
    )


def _audit_part(
    triples: Triples, report: ReadReport, *, training: Triples, known: Triples
) -> PartAudit:
    num_entities, num_relations = (int(known[:, part].max()) + 1 for part in ([0, 2], 1))
    ends = triples[:, [Part.HEAD, Part.TAIL]]
    is_seen = _occur(training[:, [Part.HEAD, Part.TAIL]], num_entities)
    is_seen_relation = _occur(training[:, Part.RELATION], num_relations)
    is_unseen = ~is_seen[ends].all(1)
    turned = triples[:, ::-1]
    duplicates = report.dropped["duplicate triple"]
    heads, tails = (
        _question_sizes(triples, missing, known) for missing in (Part.HEAD, Part.TAIL)
    )
