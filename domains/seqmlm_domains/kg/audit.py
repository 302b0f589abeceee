"""What in a graph's files will distort the numbers of link prediction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
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

NOTABLE: Final = 0.05
"""Share of triples from which a finding is told that no graph is wholly free of."""

_ENDS: Final = [Part.HEAD, Part.TAIL]


@dataclass(frozen=True, slots=True)
class PartAudit:
    """One part of a graph as it was read.

    Args:
        triples: different ones.
        duplicates: repeated lines.
        not_triples: lines with an empty field, and literals of RDF that are no names.
    """

    triples: int
    duplicates: int
    not_triples: int


@dataclass(frozen=True, slots=True)
class HeldOutAudit:
    """Validation or test triples, held against those of training.

    Args:
        triples: different ones.
        unseen_entities: entities that no training triple has.
        unseen_entity_triples: triples with such an entity.
        unseen_relation_triples: triples whose relation no training triple has.
        in_training: triples that training has too.
        reversed_in_training: triples (h, r, t) where training has (t, r, h).
        reversed_pair_in_training: triples where training has (t, any relation, h).
        pair_in_training: triples where training has h and t under another relation.
        mean_true_tails: right answers to (h, r, ?) in all parts, mean over the triples.
        mean_true_heads: likewise to (?, r, t).
        queries: two per triple.
        unique_queries: different ones.
    """

    triples: int
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


@dataclass(frozen=True)
class GraphAudit:
    """The files of a graph, counted.

    Args:
        entities: in the triples of all parts.
        train_entities: in training triples.
        relations: in the triples of all parts.
        parts: by name: ``train`` and, if there are files, ``validation`` and ``test``.
        held_out: by name: ``validation`` and ``test``, if they have triples.
        loops: triples of all parts whose head is their tail.
        categories: relations of each kind, by their training triples.
        overlaps: relations that state again what another one states, or its reverse.
        names: of the entities.
    """

    entities: int
    train_entities: int
    relations: int
    parts: dict[str, PartAudit]
    held_out: dict[str, HeldOutAudit]
    loops: int
    categories: dict[Category, int]
    overlaps: list[RelationOverlap]
    names: NameAudit

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return asdict(self)


def audit_graph(path: Path) -> GraphAudit:
    """Count what a graph's files hold, alone and against each other.

    Time and memory in proportion to the triples; names and descriptions are tokenised as the
    domain does by default.

    Args:
        path: folder with ``train`` and perhaps ``validation`` and ``test``.

    Raises:
        DataError: a file is missing, malformed or unreadable, or training has no usable triple.
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
    kinds = relation_categories(training, len(relations))
    return GraphAudit(
        entities=len(entities),
        train_entities=len(np.unique(training[:, _ENDS])),
        relations=len(relations),
        parts={part: _part(len(triples), reports[part]) for part, triples in stated.items()},
        held_out={
            part: _held_out(triples, training, known)
            for part, triples in numbered.items()
            if part != TRAIN and len(triples)
        },
        loops=int((known[:, Part.HEAD] == known[:, Part.TAIL]).sum()),
        categories=dict(Counter(kinds[i] for i in np.unique(training[:, Part.RELATION]))),
        overlaps=relation_overlaps(training, list(relations)),
        names=audit_names(list(entities), entity_texts(folder)),
    )


def findings(audit: GraphAudit) -> list[str]:
    """Return what will distort results, each as a sentence or two; none if nothing will."""
    found = []
    for part, held_out in audit.held_out.items():
        found += _findings_of_part(part, held_out)
    duplicates = sum(part.duplicates for part in audit.parts.values())
    if duplicates:
        found.append(f"{duplicates:,} triples are repeated within their file; each counts once.")
    not_triples = sum(part.not_triples for part in audit.parts.values())
    if not_triples:
        found.append(f"{not_triples:,} lines are no triples: an empty field, or a literal.")
    doubled = [overlap for overlap in audit.overlaps if overlap.kind != "symmetric"]
    if doubled:
        found.append(
            f"Relations that say the same thing as another one, or its reverse: {len(doubled):,} "
            "pairs. Their triples are answered by looking the other one up (as in FB15k)."
        )
    names = audit.names
    if names.sharing:
        found.append(
            f"{names.sharing:,} entities ({names.sharing / audit.entities:.1%}) share their name "
            "with another one: by name alone they always tie. collisions = 'disambiguate' (the "
            f"default) leaves {names.sharing_when_disambiguated:,} of them."
        )
    if names.text_only:
        found.append(
            f"{names.text_only:,} entities have a text but no triple: candidates of predictions, "
            "but for domain.entities = 'id', and not of kg evaluate, as in published results."
        )
    return found


def _findings_of_part(part: str, held_out: HeldOutAudit) -> list[str]:
    found = []

    def share(count: int) -> str:
        return f"{count:,} {part} triples ({count / held_out.triples:.1%})"

    if held_out.in_training:
        found.append(f"{share(held_out.in_training)} are in training: results are too good.")
    if held_out.unseen_entity_triples:
        found.append(
            f"{share(held_out.unseen_entity_triples)} have an entity without a training triple: "
            "only its text can be used. Libraries that drop them report better results."
        )
    if held_out.unseen_relation_triples:
        found.append(
            f"{share(held_out.unseen_relation_triples)} have a relation without a training "
            "triple: nothing can be asked about it."
        )
    if held_out.reversed_in_training > held_out.triples * NOTABLE:
        found.append(
            f"{share(held_out.reversed_in_training)} stand in training with head and tail "
            "exchanged: compare with the copy-the-reverse baseline."
        )
    return found


def _part(num_triples: int, report: ReadReport) -> PartAudit:
    duplicates = report.dropped["duplicate triple"]
    return PartAudit(num_triples, duplicates, report.dropped.total() - duplicates)


def _held_out(triples: Triples, training: Triples, known: Triples) -> HeldOutAudit:
    turned = triples[:, ::-1]
    is_unseen = ~np.isin(triples[:, _ENDS], training[:, _ENDS])
    is_leaked = _stand_in(triples, training)
    sizes = {part: _filter_sizes(triples, part, known) for part in (Part.HEAD, Part.TAIL)}
    pairs = training[:, _ENDS]
    return HeldOutAudit(
        triples=len(triples),
        unseen_entities=len(np.unique(triples[:, _ENDS][is_unseen])),
        unseen_entity_triples=int(is_unseen.any(1).sum()),
        unseen_relation_triples=int(
            (~np.isin(triples[:, Part.RELATION], training[:, Part.RELATION])).sum()
        ),
        in_training=int(is_leaked.sum()),
        reversed_in_training=int(_stand_in(turned, training).sum()),
        reversed_pair_in_training=int(_stand_in(turned[:, _ENDS], pairs).sum()),
        pair_in_training=int((_count_in(triples[:, _ENDS], pairs) > is_leaked).sum()),
        mean_true_tails=sizes[Part.TAIL][0],
        mean_true_heads=sizes[Part.HEAD][0],
        queries=2 * len(triples),
        unique_queries=sum(queries for _, queries in sizes.values()),
    )


def _filter_sizes(triples: Triples, missing: Part, known: Triples) -> tuple[float, int]:
    """True answers per triple, and different queries."""
    queries = Queries.of(triples, missing, known_triples=known)
    answers = np.diff(queries.answer_offsets)
    return float((np.diff(queries.filter_offsets) * answers).sum() / len(triples)), len(queries)


def _stand_in(rows: Triples, others: Triples) -> npt.NDArray[np.bool_]:
    return _count_in(rows, others) > 0


def _count_in(rows: Triples, others: Triples) -> npt.NDArray[np.int64]:
    """How often each row is among ``others``."""
    distinct, inverse = np.unique(np.concatenate([rows, others]), axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    counts = np.bincount(inverse[len(rows) :], minlength=len(distinct))
    return counts[inverse[: len(rows)]]


def _numbers(identifiers: Iterable[str]) -> dict[str, int]:
    """Numbers in the order of first occurrence."""
    return {key: number for number, key in enumerate(dict.fromkeys(identifiers))}


def _numbered(
    triples: Sequence[Triple], entities: Mapping[str, int], relations: Mapping[str, int]
) -> Triples:
    rows = [(entities[t.head], relations[t.relation], entities[t.tail]) for t in triples]
    return np.array(rows, np.int64).reshape(-1, 3)
