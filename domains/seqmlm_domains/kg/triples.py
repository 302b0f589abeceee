"""Reads triples and the texts of entities and relations from the files people have."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from seqmlm.data.report import ReadReport
from seqmlm.data.text_source import open_text, source_name
from seqmlm.errors import DataError
from seqmlm_domains.kg.rdf import RDF_SUFFIXES, TEXT_IRIS, LiteralTexts, is_rdf, read_statements

TRIPLE_SUFFIXES: Final = (".tsv", ".txt", ".csv", *RDF_SUFFIXES)
"""Formats of triples, each also with ``.gz``; a file of another suffix is read as TSV."""

HEADERS: Final = {("head", "relation", "tail"), ("subject", "predicate", "object"), ("h", "r", "t")}
"""First lines of a CSV or TSV file that are no triple."""

IDENTIFIER_COLUMNS: Final = ("id", "identifier", "entity", "relation")
NAME_COLUMNS: Final = ("name", "label", "synset")
DESCRIPTION_COLUMNS: Final = ("description", "text", "definition")

StatedTriple = tuple[str, str, str]
"""Identifiers of head, relation and tail."""

_BREAKS: Final = re.compile(r"[\t\n\r]")


@dataclass(frozen=True, slots=True)
class Triple:
    """One statement and where it was read.

    Args:
        head: identifier of the subject.
        relation: identifier of the predicate.
        tail: identifier of the object.
        place: file and line.
        number: of the line, from 1.
    """

    head: str
    relation: str
    tail: str
    place: str = "<memory>"
    number: int = 0

    @property
    def key(self) -> StatedTriple:
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


class StatedTexts(NamedTuple):
    """Texts that an RDF file gives beside its triples, by identifier."""

    entities: dict[str, NameAndDescription]
    relations: dict[str, NameAndDescription]


def read_triples(
    path: str | Path, report: ReadReport, *, seen: set[StatedTriple] | None = None
) -> Iterator[Triple]:
    """Yield the triples of a TSV, CSV or RDF file, plain or gzip-compressed.

    A triple that was seen already, or with an empty field, is dropped and counted, as are the
    literals of RDF but for those that :func:`read_stated_texts` takes. Memory grows with the
    number of different triples.

    Args:
        path: file, or ``-`` for standard input, which is TSV.
        report: counts what is read and dropped.
        seen: triples of other files, which are duplicates here; grows. Only this file's if None.

    Raises:
        DataError: a line has not three columns, or a line break within a field; names file and
            line. The file cannot be read.
    """
    stated = _rdf_triples(path, report) if is_rdf(path) else _tabular_triples(path, report)
    return usable_triples(stated, report, seen=set() if seen is None else seen)


def usable_triples(
    stated: Iterable[Triple], report: ReadReport, *, seen: set[StatedTriple]
) -> Iterator[Triple]:
    """Yield triples that are whole and were not seen yet; the others are dropped and counted.

    Raises:
        DataError: an identifier holds a tab or line break.
    """
    for triple in stated:
        report.read += 1
        for identifier in triple.key:
            _refuse_breaks(identifier, triple.place)
        if not all(triple.key):
            report.drop("empty field", triple.place)
        elif triple.key in seen:
            report.drop("duplicate triple", triple.place)
        else:
            seen.add(triple.key)
            yield triple


def read_texts(path: str | Path) -> dict[str, NameAndDescription]:
    """Return names and descriptions by identifier.

    A TSV or CSV file with a header names its columns (:data:`NAME_COLUMNS`,
    :data:`DESCRIPTION_COLUMNS`); without one the columns are identifier, name and, if there is a
    third, description. A JSON file maps identifiers to objects with ``label`` and
    ``description``. Of an RDF file the labels and comments of all subjects are taken.

    Raises:
        DataError: a line has one column or no identifier, an identifier comes twice with
            different texts, or the file cannot be read.
    """
    if is_rdf(path):
        stated = read_stated_texts(path)
        return stated.relations | stated.entities
    if is_json(path):
        return _read_json_texts(Path(path))
    columns: tuple[int, int, int] | None = None
    texts: dict[str, NameAndDescription] = {}
    for number, fields in delimited_rows(path):
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
        if not identifier:
            raise DataError(f"{place}: no identifier; a line is identifier TAB name.")
        _refuse_breaks(identifier, place)
        text = NameAndDescription(name, description)
        if texts.setdefault(identifier, text) != text:
            raise DataError(f"{place}: {identifier!r} has a text already, and it is another one.")
    return texts


def read_stated_texts(path: str | Path) -> StatedTexts:
    """Return the texts that ``rdfs:label``, ``skos:prefLabel`` and ``rdfs:comment`` give.

    A subject that the file uses as a predicate, and in no other place of a triple, is a relation;
    every other one is an entity. One pass over the file.

    Raises:
        DataError: as for :func:`~seqmlm_domains.kg.rdf.read_statements`, also ConfigError.
    """
    literals = LiteralTexts()
    predicates: set[str] = set()
    nodes: set[str] = set()
    for placed in read_statements(path):
        statement = placed.statement
        if not literals.add(statement) and not statement.is_literal:
            predicates.add(statement.relation)
            nodes |= {statement.head, statement.tail}
    texts = StatedTexts({}, {})
    for identifier in dict.fromkeys([*literals.names, *literals.descriptions]):
        _refuse_breaks(identifier, source_name(path))
        text = NameAndDescription(
            literals.names.get(identifier, ""), literals.descriptions.get(identifier, "")
        )
        if identifier in predicates:
            texts.relations[identifier] = text
        if identifier in nodes or identifier not in predicates:
            texts.entities[identifier] = text
    return texts


def is_json(path: str | Path) -> bool:
    """Say whether a file's suffix is that of JSON, perhaps with ``.gz``."""
    return str(path).removesuffix(".gz").endswith(".json")


def delimited_rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers and fields of a CSV file, or of a file with tabs; empty lines left out.

    Raises:
        DataError: the CSV is malformed, or the file cannot be read.
    """
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
            if line.strip(" \n"):  # tabs alone part empty fields, which are to be counted
                yield number, line.rstrip("\n").split("\t")


def _rdf_triples(path: str | Path, report: ReadReport) -> Iterator[Triple]:
    for placed in read_statements(path):
        statement = placed.statement
        if not statement.is_literal:
            yield Triple(
                statement.head, statement.relation, statement.tail, placed.place, placed.number
            )
        elif statement.relation in TEXT_IRIS:
            report.note("label or comment taken as a text", placed.place)
        else:
            report.read += 1
            report.drop("object is a literal, not an entity", placed.place)


def _tabular_triples(path: str | Path, report: ReadReport) -> Iterator[Triple]:
    is_first = True
    for number, fields in delimited_rows(path):
        place = f"{source_name(path)}, line {number}"
        if len(fields) != 3:
            columns = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
            raise DataError(
                f"{place}: {columns}; a triple has 3: head, relation and tail, "
                "parted by tabs (.tsv, .txt) or commas (.csv)."
            )
        head, relation, tail = (field.strip() for field in fields)
        if is_first and (head.lower(), relation.lower(), tail.lower()) in HEADERS:
            report.note("first line is a header, not a triple", place)
        else:
            yield Triple(head, relation, tail, place, number)
        is_first = False


def _refuse_breaks(identifier: str, place: str) -> None:
    """Records are lines of tab-separated fields."""
    if _BREAKS.search(identifier):
        raise DataError(f"{place}: {identifier!r} holds a tab or line break; no identifier may.")


def _header_columns(fields: list[str]) -> tuple[int, int, int] | None:
    """Columns of identifier, name and description, -1 where absent; None if it is no header."""

    def find(names: tuple[str, ...]) -> int:
        return next((fields.index(name) for name in names if name in fields), -1)

    identifier, name = find(IDENTIFIER_COLUMNS), find(NAME_COLUMNS)
    if identifier < 0 or name < 0:
        return None
    return identifier, name, find(DESCRIPTION_COLUMNS)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, perhaps compressed by gzip.

    Raises:
        DataError: it is not valid, or cannot be read.
    """
    with open_text(path) as file:
        text = "".join(file)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}).") from error


def _read_json_texts(path: Path) -> dict[str, NameAndDescription]:
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise DataError(f"{path}: it must map identifiers to objects with label and description.")
    if "" in content:
        raise DataError(f"{path}: one identifier is empty.")
    for identifier in content:
        _refuse_breaks(identifier, str(path))
    return {
        identifier: NameAndDescription(
            str(entry.get("label") or ""), str(entry.get("description") or "")
        )
        for identifier, entry in content.items()
    }
