"""Folders and files of a graph to records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from seqmlm.data.report import ReadReport
from seqmlm.data.text_source import source_name
from seqmlm.domain import Record
from seqmlm.errors import DataError
from seqmlm_domains.kg.triples import GraphFolder, NameAndDescription, read_texts, read_triples

TRAIN: Final = "train"
VALIDATION: Final = "validation"


def read_graph(sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
    """Yield the texts, training and validation triples of folders and files.

    Records are named ``entity``, ``relation``, ``train`` or ``validation``; the content is three
    fields parted by tabs. Test triples are not read. Texts are not counted as records, their
    numbers are noted.

    Args:
        sources: a folder with a split (:meth:`GraphFolder.find`), files of triples, or ``-``.
        report: counts triples.

    Raises:
        DataError: a source is missing, unreadable, malformed, or holds no triple.
    """
    for source in sources:
        if Path(source).is_dir():
            yield from _read_folder(GraphFolder.find(Path(source)), report)
        else:
            yield from _read_triples(source, TRAIN, report)


def entity_texts(folder: GraphFolder) -> dict[str, NameAndDescription]:
    """Return the texts of all entities; long descriptions win over short ones."""
    texts = {} if folder.entity_texts is None else read_texts(folder.entity_texts)
    if folder.entity_descriptions is not None:
        for identifier, text in read_texts(folder.entity_descriptions).items():
            name = texts.get(identifier, NameAndDescription("")).name
            texts[identifier] = NameAndDescription(name, text.name)
    return texts


def _read_folder(folder: GraphFolder, report: ReadReport) -> Iterator[Record]:
    if folder.entity_texts is not None or folder.entity_descriptions is not None:
        place = folder.entity_texts or folder.entity_descriptions
        yield from _text_records("entity", entity_texts(folder), str(place), report)
    if folder.relation_texts is not None:
        texts = read_texts(folder.relation_texts)
        yield from _text_records("relation", texts, str(folder.relation_texts), report)
    yield from _read_triples(folder.train, TRAIN, report)
    if folder.validation is not None:
        yield from _read_triples(folder.validation, VALIDATION, report)


def _text_records(
    kind: str, texts: dict[str, NameAndDescription], source: str, report: ReadReport
) -> Iterator[Record]:
    report.note(f"{kind} text read", source, len(texts))
    for number, (identifier, text) in enumerate(texts.items(), start=1):
        fields = (identifier, " ".join(text.name.split()), " ".join(text.description.split()))
        yield Record(kind, "\t".join(fields), source, number)


def _read_triples(path: str | Path, part: str, report: ReadReport) -> Iterator[Record]:
    number = 0
    for number, triple in enumerate(read_triples(path, report), start=1):
        yield Record(part, "\t".join(triple.key), source_name(path), number)
    if not number and part == TRAIN:
        raise DataError(f"{source_name(path)}: no usable triple ({report.summary()}).")
