"""Reads documents from plain text, JSON Lines and CSV, each plain or gzip-compressed."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Literal, TextIO, get_args

from seqmlm.data.report import ReadReport
from seqmlm.data.sources import find_files
from seqmlm.data.text_source import open_text, source_name
from seqmlm.domain import Record
from seqmlm.errors import ConfigError, DataError

FileFormat = Literal["auto", "text", "jsonl", "csv", "tsv"]
DocumentLayout = Literal["file", "line", "heading"]

FORMAT_OF_SUFFIX: Final[dict[str, FileFormat]] = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
}
"""What is read from a folder, each also with ``.gz``; a named file of another suffix is text."""

WIKITEXT_HEADING: Final = r" ?= ([^=].*?) = ?"
"""Title lines such as `` = Title = ``, but not the section titles `` = = Section = = ``."""

SHORTEST_PASSAGE_LIMIT: Final = 100
LONGEST_ROW: Final = 64 * 2**20
"""Characters of one line of a JSON Lines, CSV or TSV file, which must fit into memory."""

PART_MARK: Final = " \N{SECTION SIGN}"
"""Between a document's name and the number of a passage, from the second one on."""

_LONGEST_PIECE = 1 << 16  # of a line of plain text: a line of any length is read in bounded memory
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_IS_LATER_PASSAGE = re.compile(re.escape(PART_MARK) + r"\d+")


@dataclass(frozen=True)
class TextReader:
    r"""Yields documents as records; paragraphs are separated by exactly one blank line.

    Line ends become ``\n``, runs of blank lines one blank line, and white space around a document
    is dropped; nothing else changes.

    Args:
        file_format: ``auto`` goes by the suffix; standard input is then plain text.
        documents: of plain text: a ``file``, each ``line``, or what follows each ``heading``.
        heading: regular expression that a heading line matches as a whole; its first group, if it
            has one, names the document.
        text_field: field of JSON Lines, or column of CSV and TSV, that holds the document.
        passage_characters: a longer document becomes several records, cut at the end of a
            paragraph, else of a line, else of a word.

    Raises:
        ConfigError: an option is outside what is allowed.
    """

    file_format: FileFormat = "auto"
    documents: DocumentLayout = "file"
    heading: str = WIKITEXT_HEADING
    text_field: str = "text"
    passage_characters: int = 2_000
    _heading: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        choices = {"file_format": FileFormat, "documents": DocumentLayout}
        for name, allowed in choices.items():
            if getattr(self, name) not in get_args(allowed):
                raise ConfigError(
                    f"domain.{name} is {getattr(self, name)!r}; allowed: "
                    f"{', '.join(get_args(allowed))}."
                )
        if not isinstance(self.text_field, str):
            raise ConfigError(f"domain.text_field is {self.text_field!r}; it is a name.")
        limit = self.passage_characters
        if not isinstance(limit, int) or limit < SHORTEST_PASSAGE_LIMIT:
            raise ConfigError(
                f"domain.passage_characters is {limit!r}; it is a whole number of at least "
                f"{SHORTEST_PASSAGE_LIMIT}."
            )
        try:
            object.__setattr__(self, "_heading", re.compile(self.heading))
        except (re.error, TypeError) as error:
            raise ConfigError(
                f"domain.heading is {self.heading!r}, not a regular expression: {error}."
            ) from error

    def read(self, sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
        """Yield the records of files, folders, glob patterns or ``-``, in order.

        Memory: one passage, or one line of a table.

        Raises:
            DataError: a source is missing, unreadable or damaged, a row cannot be read or has no
                such field, or a table has no row; names file and line.
        """
        suffixes = tuple(FORMAT_OF_SUFFIX)
        for path in find_files(sources, report, suffixes=suffixes, noun="text"):
            place = source_name(path)
            number = 0
            with open_text(path) as text:
                for name, chunks in self._documents(text, place):
                    passages = cut_passages(chunks, self.passage_characters)
                    # A document of white space alone is a record too, so that it is counted.
                    for part, passage in enumerate(passages, start=1):
                        number += 1
                        report.read += 1
                        suffix = f"{PART_MARK}{part}" if part > 1 else ""
                        yield Record(name + suffix, passage, place, number)
            if not number:
                raise DataError(f"{place}: no document in the file (0 records).")

    def _documents(self, text: TextIO, place: str) -> Iterator[tuple[str, Iterable[str]]]:
        """Yield name and text, in pieces, of every document."""
        file_format = _format_of(place) if self.file_format == "auto" else self.file_format
        stem = Path(place).name
        if file_format == "text":
            pieces = self._named_pieces(text, stem)
            for name, group in itertools.groupby(pieces, key=itemgetter(0)):
                yield name, map(itemgetter(1), group)
            return
        rows: dict[str, Callable[[], Iterator[tuple[int, Any]]]] = {
            "jsonl": lambda: json_values(text, self.text_field, place, option="domain.text_field"),
            "csv": lambda: _csv_values(text, self.text_field, ",", place),
            "tsv": lambda: _csv_values(text, self.text_field, "\t", place),
        }
        for line, value in rows[file_format]():
            yield f"{stem}:{line}", [_checked_value(value, self.text_field, line, place)]

    def _named_pieces(self, text: TextIO, stem: str) -> Iterator[tuple[str, str]]:
        """Yield document name and piece of a line; names of different documents differ."""
        name, line, at_line_start = stem, 0, True
        if self.documents == "file":
            yield name, ""  # an empty file is an empty document
        while piece := text.readline(_LONGEST_PIECE):
            if at_line_start:
                line += 1
                if self.documents == "line":
                    name = f"{stem}:{line}"
                elif self.documents == "heading" and (
                    title := self._heading.fullmatch(piece.rstrip("\n"))
                ):
                    name = f"{stem}:{line} {title[1 if title.re.groups else 0].strip()}"
            at_line_start = piece.endswith("\n")
            is_before_headings = self.documents == "heading" and name == stem
            if not (is_before_headings and piece.isspace()):
                yield name, piece


def is_later_passage(name: str) -> bool:
    """Say whether a record of this name continues the document of the record before it."""
    mark = name.rfind(PART_MARK)
    return mark >= 0 and _IS_LATER_PASSAGE.fullmatch(name, mark) is not None


def cut_passages(pieces: Iterable[str], limit: int) -> Iterator[str]:
    """Join pieces of a document and yield passages of at most ``limit`` characters.

    White space around a passage is dropped; a document without anything else gives one empty
    passage.
    """
    parts: list[str] = []
    size, num_passages = 0, 0
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size <= limit:
            continue
        text = _BLANK_LINES.sub("\n\n", "".join(parts)).lstrip()
        while len(text) > limit:
            passage, text = _cut(text, limit)
            num_passages += 1
            yield passage
        parts, size = [text], len(text)
    rest = _BLANK_LINES.sub("\n\n", "".join(parts)).strip()
    if rest or not num_passages:
        yield rest


def _cut(text: str, limit: int) -> tuple[str, str]:
    """Cut in the second half of what is allowed, where it hurts least."""
    for separator in ("\n\n", "\n", " "):
        end = text.rfind(separator, limit // 2, limit)
        if end >= 0:
            return text[:end].rstrip(), text[end:].lstrip()
    return text[:limit].rstrip(), text[limit:].lstrip()


def _format_of(place: str) -> FileFormat:
    suffix = Path(place.lower().removesuffix(".gz")).suffix
    if suffix == ".json":
        raise DataError(
            f"{place}: a .json file is one value, not documents. Convert it to JSON Lines (one "
            "object a line), or set domain.file_format."
        )
    return FORMAT_OF_SUFFIX.get(suffix, "text")


def _bounded_lines(text: TextIO, place: str) -> Iterator[str]:
    for number in itertools.count(1):
        line = text.readline(LONGEST_ROW)
        if not line:
            return
        if len(line) == LONGEST_ROW and not line.endswith("\n"):
            raise DataError(
                f"{place}, line {number}: longer than {LONGEST_ROW:,} characters, too long for a "
                "row of a table. Is it really JSON Lines or CSV?"
            )
        yield line


def json_values(text: TextIO, name: str, place: str, *, option: str) -> Iterator[tuple[int, Any]]:
    """Yield line number and value of one field of JSON Lines; blank lines are skipped.

    Args:
        text: the open file.
        name: of the field.
        place: the file's name, for messages.
        option: setting that names the field, for messages.

    Raises:
        DataError: a line is not an object with this field; names file and line.
    """
    for number, line in enumerate(_bounded_lines(text, place), start=1):
        if line.isspace():
            continue
        try:
            row = json.loads(line.rstrip())
        except json.JSONDecodeError as error:
            raise DataError(
                f"{place}, line {number}, column {error.colno}: not valid JSON ({error.msg})."
            ) from error
        except (ValueError, RecursionError) as error:  # numbers and nesting beyond all bounds
            raise DataError(f"{place}, line {number}: not readable JSON ({error}).") from error
        if not isinstance(row, dict):
            raise DataError(
                f"{place}, line {number}: {type(row).__name__} instead of an object such as "
                f'{{"{name}": ...}}.'
            )
        if name not in row:
            raise DataError(
                f"{place}, line {number}: no field {name!r}; it has "
                f"{', '.join(map(repr, row)) or 'none'}. Name the field with {option}."
            )
        yield number, row[name]


def _csv_values(text: TextIO, column: str, delimiter: str, place: str) -> Iterator[tuple[int, Any]]:
    rows = csv.reader(_bounded_lines(text, place), delimiter=delimiter, strict=True)
    try:
        header = next(rows, [])
        if header and column not in header:
            raise DataError(
                f"{place}, line 1: no column {column!r}; it has {', '.join(map(repr, header))}. "
                "Name the column with domain.text_field."
            )
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{place}, line {rows.line_num}: {len(row)} values for {len(header)} columns."
                )
            yield rows.line_num, row[header.index(column)]
    except csv.Error as error:
        raise DataError(
            f"{place}, line {rows.line_num}: not valid CSV ({error}). Values of more than "
            f"{csv.field_size_limit():,} characters need JSON Lines."
        ) from error


def _checked_value(value: Any, text_field: str, line: int, place: str) -> str:
    """Refuse what no text file could hold; null is an empty document."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{place}, line {line}: {text_field!r} is {type(value).__name__}, not a string."
        )
    if "\0" in value:
        raise DataError(f"{place}, line {line}: NUL character in {text_field!r}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{place}, line {line}: character {error.start + 1} of {text_field!r} is half a "
            "surrogate pair, which no Unicode text holds."
        ) from error
    return value.replace("\r\n", "\n").replace("\r", "\n")
