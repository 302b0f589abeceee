"""What becomes of the texts of a graph, for the read report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from seqmlm.data.report import EXAMPLES_KEPT, ReadReport
from seqmlm.domain import Record


def noted(
    records: Iterable[Record], report: ReadReport, *, options: Mapping[str, Any]
) -> Iterator[Record]:
    """Pass records on and note at the end which of their texts the model is not shown, and why.

    Args:
        records: as :func:`~seqmlm_domains.kg.reader.read_graph` yields them.
        report: takes the notes.
        options: of :class:`~seqmlm_domains.kg.domain.KnowledgeGraphDomain`.
    """
    texts = _Texts()
    for record in records:
        texts.add(record)
        yield record
    if options["entities"] == "id":
        _note(report, "entity text not used: domain.entities = 'id'", texts.entities)
        _note(report, "relation text not used: domain.entities = 'id'", texts.relations)
        return
    alone = texts.entities - texts.mentioned
    _note(report, "entity in no triple: a candidate, known by its text", alone)
    if texts.entities:
        nameless = (texts.mentioned | alone) - texts.named
        _note(report, "entity without a name: called by its identifier", nameless)
    if not options["max_description_tokens"]:
        is_used = options["collisions"] == "disambiguate"
        use = "used to tell equal names apart only" if is_used else "not used"
        why = "domain.max_description_tokens = 0"
        _note(report, f"entity description {use}: {why}", texts.described)
        _note(report, f"relation description not used: {why}", texts.described_relations)


@dataclass
class _Texts:
    """Identifiers that triples mention, and those that texts are about."""

    mentioned: set[str] = field(default_factory=set)
    entities: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    described: set[str] = field(default_factory=set)
    relations: set[str] = field(default_factory=set)
    described_relations: set[str] = field(default_factory=set)

    def add(self, record: Record) -> None:
        first, second, third = record.content.split("\t")
        if record.name == "entity":
            self.entities.add(first)
            if second:
                self.named.add(first)
            if third:
                self.described.add(first)
        elif record.name == "relation":
            self.relations.add(first)
            if third:
                self.described_relations.add(first)
        else:
            self.mentioned |= {first, third}


def _note(report: ReadReport, change: str, identifiers: Collection[str]) -> None:
    if identifiers:
        shown = ", ".join(map(repr, sorted(identifiers)[:EXAMPLES_KEPT]))
        report.note(change, shown, len(identifiers))
