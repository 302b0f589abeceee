"""Triples and texts that a program holds, read as if they stood in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from seqmlm.data.report import ReadReport
from seqmlm.domain import Record
from seqmlm.errors import DataError
from seqmlm_domains.kg.arguments import stated_triples
from seqmlm_domains.kg.domain import KnowledgeGraphDomain
from seqmlm_domains.kg.networkx_graph import from_networkx, texts_from_networkx
from seqmlm_domains.kg.reader import TRAIN, VALIDATION, text_records, triple_records
from seqmlm_domains.kg.reading_notes import noted
from seqmlm_domains.kg.triples import NameAndDescription, StatedTriple, Triple, usable_triples

if TYPE_CHECKING:
    import networkx

SOURCE: Final = "memory"
"""Stands for the files of a graph that has none."""


@dataclass(frozen=True)
class GraphInMemory:
    """What a model is trained and chosen on.

    Args:
        train: head, relation and tail of each training triple.
        validation: likewise; None leaves it to the trainer to hold some out.
        entity_texts: by identifier.
        relation_texts: by identifier.
    """

    train: Sequence[StatedTriple]
    validation: Sequence[StatedTriple] | None = None
    entity_texts: Mapping[str, NameAndDescription] = field(default_factory=dict)
    relation_texts: Mapping[str, NameAndDescription] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        train: object,
        *,
        validation: object = None,
        entity_texts: Mapping[str, NameAndDescription],
        relation_texts: Mapping[str, NameAndDescription],
    ) -> GraphInMemory:
        """Check what a program gives; see :func:`checked_triples`.

        A graph of networkx brings the texts of its nodes; ``entity_texts`` goes before them.
        """
        own_texts = texts_from_networkx(train) if is_networkx(train) else {}
        return cls(
            checked_triples(train, TRAIN),
            None
            if validation is None
            else checked_triples(validation, VALIDATION, may_be_empty=True),
            {**own_texts, **entity_texts},
            relation_texts,
        )

    def records(self, report: ReadReport) -> Iterator[Record]:
        """Yield records as :func:`~seqmlm_domains.kg.reader.read_graph` does of files."""
        yield from text_records("entity", self.entity_texts, SOURCE, report)
        yield from text_records("relation", self.relation_texts, SOURCE, report)
        seen: dict[str, set[StatedTriple]] = {TRAIN: set(), VALIDATION: set()}
        for part, stated in {TRAIN: self.train, VALIDATION: self.validation or []}.items():
            placed = (
                Triple(*triple, f"{part}: triple {number}", number)
                for number, triple in enumerate(stated, start=1)
            )
            usable = usable_triples(placed, report, seen=seen[part])
            yield from triple_records(usable, part, SOURCE, report, seen)


class InMemoryDomain(KnowledgeGraphDomain):
    """The domain of a graph that is not in files.

    Args:
        graph: what it reads, whatever the sources.
        options: of :class:`KnowledgeGraphDomain`.
    """

    def __init__(self, graph: GraphInMemory, options: Mapping[str, Any]) -> None:
        super().__init__(**options)
        self._records, self.registered_name = graph, KnowledgeGraphDomain.name

    def read(self, sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
        """Yield the texts and triples of the graph."""
        return noted(self._records.records(report), report, options=self.options)


def checked_triples(given: object, part: str, *, may_be_empty: bool = False) -> list[StatedTriple]:
    """Return triples, or those of a graph of networkx, as a list.

    Args:
        given: an iterable of triples, or the graph.
        part: what they are, for messages.
        may_be_empty: whether there may be none.

    Raises:
        ConfigError: it is neither.
        DataError: a triple is not three strings that are not empty, or there is none; or see
            :func:`~seqmlm_domains.kg.networkx_graph.from_networkx`.
    """
    if is_networkx(given):
        return from_networkx(given)
    try:
        triples = stated_triples(given)
    except DataError as error:
        raise DataError(f"{part}: {error}") from error
    for number, triple in enumerate(triples, start=1):
        if not all(field.strip() for field in triple):
            raise DataError(f"{part}: triple {number}: {triple!r} has an empty field.")
    if not triples and not may_be_empty:
        raise DataError(f"{part}: there is no triple.")
    return triples


def is_networkx(given: object) -> TypeGuard[networkx.MultiDiGraph]:
    """Say whether something is a graph of networkx."""
    import networkx

    return isinstance(given, networkx.Graph)
