"""Reads triples and the texts of entities and relations from the files people have."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from seqmlm.data.report import ReadReport
from seqmlm.data.text_source import open_text, source_name
from seqmlm.errors import DataError, suggestion
from seqmlm_domains.kg.n_triples import parse_n_triple

TRIPLE_SUFFIXES: Final = (".tsv", ".txt", ".csv", ".nt")
"""Formats of triples, each also with ``.gz``; a file of another suffix is read as TSV."""

HEADER: Final = {("head", "relation", "tail"), ("subject", "predicate", "object"), ("h", "r", "t")}
"""First lines of a CSV or TSV file that are no triple."""

IDENTIFIER_COLUMNS: Final = ("id", "identifier", "entity", "relation")
NAME_COLUMNS: Final = ("name", "label", "synset")
DESCRIPTION_COLUMNS: Final = ("description", "text", "definition")


@dataclass(frozen=True, slots=True)
class Triple:
    """One statement and where it was read.

    Args:
        head: identifier of the subject.
        relation: identifier of the predicate.
        tail: identifier of the object.
        place: file and line.
    """

    head: str
    relation: str
    tail: str
    place: str = "<memory>"

    @property
    def key(self) -> tuple[str, str, str]:
        """Head, relation and tail."""
        return self.head, self.relation, self.tail


@dataclass(frozen=True, slots=True)
class NameAndDescription:
    """What is known in words about an entity or a relation.

    Args:
        name: as people say it; empty if not given.
        description: empty if not given.
    """

    name: str
    description: str = ""


def read_triples(path: str | Path, report: ReadReport) -> Iterator[Triple]:
    """Yield the triples of a TSV, CSV or N-Triples file, plain or gzip-compressed.

    A triple that the file has had already, or with an empty field, is dropped and counted. Memory
    grows with the number of different triples.

    Args:
        path: file, or ``-`` for standard input, which is TSV.
        report: counts what is read and dropped.

    Raises:
        DataError: a line has not three columns; names file and line. The file cannot be read.
    """
    seen: set[tuple[str, str, str]] = set()
    for number, fields in _rows(path):
        place = f"{source_name(path)}, line {number}"
        if fields is None:  # a literal value, in N-Triples
            report.read += 1
            report.drop("object is a literal, not an entity", place)
            continue
        if len(fields) != 3:
            raise DataError(
                f"{place}: {len(fields)} columns; a triple has 3: head, relation and tail, "
                "parted by tabs (.tsv, .txt) or commas (.csv)."
            )
        head, relation, tail = (value.strip() for value in fields)
        if number == 1 and (head.lower(), relation.lower(), tail.lower()) in HEADER:
            continue
        report.read += 1
        triple = Triple(head, relation, tail, place)
        if not (head and relation and tail):
            report.drop("empty field", place)
        elif triple.key in seen:
            report.drop("duplicate triple", place)
        else:
            seen.add(triple.key)
            yield triple


def read_texts(path: str | Path) -> dict[str, NameAndDescription]:
    """Return names and descriptions by identifier.

    A TSV or CSV file with a header names its columns (:data:`NAME_COLUMNS`,
    :data:`DESCRIPTION_COLUMNS`); without one the columns are identifier, name and, if there is a
    third, description. A JSON file maps identifiers to objects with ``label`` and
    ``description``.

    Raises:
        DataError: a line has one column, an identifier comes twice with different texts, or the
            file cannot be read.
    """
    if str(path).removesuffix(".gz").endswith(".json"):
        return _read_json_texts(Path(path))
    columns: tuple[int, int, int] | None = None
    texts: dict[str, NameAndDescription] = {}
    for number, fields in _delimited_rows(path):
        place = f"{source_name(path)}, line {number}"
        if columns is None:
            columns = _header_columns([field.strip().lower() for field in fields])
            if columns is not None:
                continue
            columns = (0, 1, 2)
        if len(fields) < 2:
            raise DataError(f"{place}: 1 column; a line is identifier TAB name [TAB description].")
        identifier, name, description = (
            fields[column].strip() if 0 <= column < len(fields) else "" for column in columns
        )
        text = NameAndDescription(name, description)
        if texts.setdefault(identifier, text) != text:
            raise DataError(f"{place}: {identifier!r} has a text already, and it is another one.")
    return texts


def _rows(path: str | Path) -> Iterator[tuple[int, list[str] | None]]:
    """Line numbers and fields; None for an N-Triples line whose object is a literal."""
    if not str(path).removesuffix(".gz").endswith(".nt"):
        yield from _delimited_rows(path)
        return
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if (text := line.strip()) and not text.startswith("#"):
                yield number, parse_n_triple(text, f"{source_name(path)}, line {number}")


def _delimited_rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    with open_text(path) as file:
        if str(path).removesuffix(".gz").endswith(".csv"):
            rows = csv.reader(file, strict=True)
            try:
                for fields in rows:
                    if fields:
                        yield rows.line_num, fields
            except csv.Error as error:
                place = f"{source_name(path)}, line {rows.line_num}"
                raise DataError(f"{place}: not valid CSV ({error}).") from error
            return
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.rstrip("\n").split("\t")


def _header_columns(fields: list[str]) -> tuple[int, int, int] | None:
    """Columns of identifier, name and description, -1 where absent; None if it is no header."""

    def find(names: tuple[str, ...]) -> int:
        return next((fields.index(name) for name in names if name in fields), -1)

    identifier, name = find(IDENTIFIER_COLUMNS), find(NAME_COLUMNS)
    if identifier < 0 or name < 0:
        return None
    return identifier, name, find(DESCRIPTION_COLUMNS)


def _read_json_texts(path: Path) -> dict[str, NameAndDescription]:
    with open_text(path) as file:
        try:
            content = json.load(file)
        except ValueError as error:
            raise DataError(f"{path}: not valid JSON ({error}).") from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise DataError(f"{path}: it must map identifiers to objects with label and description.")
    return {
        identifier: NameAndDescription(
            str(entry.get("label") or ""), str(entry.get("description") or "")
        )
        for identifier, entry in content.items()
    }


@dataclass(frozen=True)
class GraphFolder:
    """Where the parts of a graph lie.

    Args:
        train: file of the training triples.
        validation: of those that choose between models; None if there is none.
        test: of those that are kept for the end; None if there is none.
        entity_texts: of names and descriptions; None if there is none.
        entity_descriptions: of longer descriptions alone; None if there is none.
        relation_texts: as for entities.
    """

    train: Path
    validation: Path | None = None
    test: Path | None = None
    entity_texts: Path | None = None
    entity_descriptions: Path | None = None
    relation_texts: Path | None = None

    @classmethod
    def find(cls, folder: Path) -> GraphFolder:
        """Recognise the files of a folder by name.

        Triples: ``train``, ``valid``, ``validation`` or ``dev``, and ``test``, each ``.tsv``,
        ``.txt``, ``.csv`` or ``.nt``. Texts: ``entities.tsv`` with a header, or
        ``entity2text.txt``, ``entity2textlong.txt`` and ``relation2text.txt`` (KG-BERT), or
        ``relations.tsv``; ``entities.json`` and ``relations.json``. Each also with ``.gz``.

        Raises:
            DataError: there are no training triples, or two files of one kind.
        """
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())

        def one(
            stems: tuple[str, ...], suffixes: tuple[str, ...], fits: Callable[[Path], bool]
        ) -> Path | None:
            wanted = {
                stem + suffix + packed
                for stem in stems
                for suffix in suffixes
                for packed in ("", ".gz")
            }
            found = [folder / name for name in names if name in wanted and fits(folder / name)]
            if len(found) > 1:
                both = " and ".join(path.name for path in found)
                raise DataError(f"{folder}: {both} are two files for one purpose. Keep one.")
            return found[0] if found else None

        def anything(path: Path) -> bool:
            return True

        train = one(("train",), TRIPLE_SUFFIXES, anything)
        if train is None:
            hint = suggestion("train.tsv", names)
            raise DataError(
                f"{folder}: no training triples; looked for train.tsv, train.txt, train.csv and "
                f"train.nt.{hint} Name the file itself to read a graph without a split."
            )
        texts = ("entities", "entity2text")
        return cls(
            train=train,
            validation=one(("valid", "validation", "dev"), TRIPLE_SUFFIXES, anything),
            test=one(("test",), TRIPLE_SUFFIXES, anything),
            entity_texts=one(texts, (".tsv", ".txt", ".csv", ".json"), _has_texts),
            entity_descriptions=one(("entity2textlong",), (".txt", ".tsv"), anything),
            relation_texts=one(
                ("relations", "relation2text"), (".tsv", ".txt", ".csv", ".json"), _has_texts
            ),
        )


def _has_texts(path: Path) -> bool:
    """Whether a file has more than a column of identifiers."""
    if str(path).removesuffix(".gz").endswith(".json"):
        return True
    first = next(_delimited_rows(path), None)
    return first is not None and len(first[1]) > 1
