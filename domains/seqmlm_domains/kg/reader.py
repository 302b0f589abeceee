"""Folders and files of a graph to records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from seqmlm.data.report import ReadReport
from seqmlm.data.sources import find_files
from seqmlm.data.text_source import source_name
from seqmlm.domain import Record
from seqmlm.errors import DataError
from seqmlm_domains.kg.graph import Texts
from seqmlm_domains.kg.graph_folder import GraphFolder, entity_texts, relation_texts
from seqmlm_domains.kg.rdf import is_rdf
from seqmlm_domains.kg.triples import (
    TRIPLE_SUFFIXES,
    NameAndDescription,
    StatedTriple,
    Triple,
    read_stated_texts,
    read_triples,
)

TRAIN: Final = "train"
VALIDATION: Final = "validation"


def read_graph(sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
    """Yield the texts, training and validation triples of folders and files.

    Records are named ``entity``, ``relation``, ``train`` or ``validation``; the content is three
    fields parted by tabs. Test triples are not read. Texts are not counted as records, their
    numbers are noted. A triple that an earlier source of the same part has had is dropped; a
    validation triple that training has too is kept and noted.

    Args:
        sources: a folder with a split (:meth:`GraphFolder.find`), files of triples, glob
            patterns, or ``-``.
        report: counts triples.

    Raises:
        DataError: a source is missing, unreadable, malformed, or holds no triple.
    """
    seen: dict[str, set[StatedTriple]] = {TRAIN: set(), VALIDATION: set()}
    for source in sources:
        if Path(source).is_dir():
            folder = GraphFolder.find(Path(source))
            yield from _read_folder(replace(folder, test=None), report, seen)
            continue
        for path in find_files([source], report, suffixes=TRIPLE_SUFFIXES, noun="triple"):
            if is_rdf(path):
                texts = read_stated_texts(path)
                yield from text_records("entity", texts.entities, str(path), report)
                yield from text_records("relation", texts.relations, str(path), report)
            yield from _read_triples(path, TRAIN, report, seen)


def _read_folder(
    folder: GraphFolder, report: ReadReport, seen: dict[str, set[StatedTriple]]
) -> Iterator[Record]:
    source = str(folder.train.parent)
    for path in folder.unused:
        report.note("file of texts not used, another one has their place", str(path))
    for path in folder.without_texts:
        report.note("file of identifiers alone, not used: it holds no texts", str(path))
    yield from text_records("entity", entity_texts(folder), source, report)
    yield from text_records("relation", relation_texts(folder), source, report)
    yield from _read_triples(folder.train, TRAIN, report, seen)
    if folder.validation is not None:
        yield from _read_triples(folder.validation, VALIDATION, report, seen)


def text_records(
    kind: Texts, texts: Mapping[str, NameAndDescription], source: str, report: ReadReport
) -> Iterator[Record]:
    """Yield a record for the text of each entity or relation, and note how many there are."""
    if texts:
        report.note(f"{kind} text read", source, len(texts))
    for number, (identifier, text) in enumerate(texts.items(), start=1):
        fields = (identifier, " ".join(text.name.split()), " ".join(text.description.split()))
        yield Record(kind, "\t".join(fields), source, number)


def _read_triples(
    path: str | Path, part: str, report: ReadReport, seen: dict[str, set[StatedTriple]]
) -> Iterator[Record]:
    triples = read_triples(path, report, seen=seen[part])
    is_empty = True
    for record in triple_records(triples, part, source_name(path), report, seen):
        is_empty = False
        yield record
    if is_empty and part == TRAIN:
        raise DataError(f"{source_name(path)}: no usable triple ({report.summary()}).")


def triple_records(
    triples: Iterable[Triple],
    part: str,
    source: str,
    report: ReadReport,
    seen: Mapping[str, set[StatedTriple]],
) -> Iterator[Record]:
    """Yield a record for each triple, and note those of validation that training has too.

    Args:
        triples: usable ones.
        part: ``train`` or ``validation``.
        source: of the records.
        report: takes the notes.
        seen: the triples of either part so far.
    """
    for triple in triples:
        if part == VALIDATION and triple.key in seen[TRAIN]:
            report.note("validation triple that is in training too", triple.place)
        yield Record(part, "\t".join(triple.key), source, triple.number)
