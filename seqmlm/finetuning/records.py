"""Labelled items as their files hold them, with the place of each for messages."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmlm.data.text_source import open_text, source_name
from seqmlm.errors import ConfigError, DataError, suggestion

TABLE_FORMATS = (".csv", ".tsv", ".jsonl", ".json")


@dataclass(frozen=True, slots=True)
class LabelledRecord:
    """One item of a data file.

    Args:
        fields: by column, as read; what is predicted is written beside them.
        place: file and line, for messages.
        number: of the item in its file, counted from 1.
    """

    fields: Mapping[str, Any]
    place: str
    number: int

    def text(self, column: str) -> str:
        """Return a column as text; numbers of JSON Lines are spelt out.

        Raises:
            DataError: the item has no such column, or no value in it.
        """
        value = self.fields.get(column)
        if value is None:
            raise DataError(f"{self.place}: {column!r} has no value.")
        if not isinstance(value, str | int | float):
            raise DataError(f"{self.place}: {column!r} is {value!r}; text or a number is needed.")
        return str(value)


def read_table(path: str | Path, columns: Mapping[str, str]) -> list[LabelledRecord]:
    """Read CSV with quotes, TSV without, or JSON Lines; plain or gzip.

    Args:
        path: file, told by its ending.
        columns: needed ones, as option of the task -> column.

    Raises:
        DataError: the file cannot be read, is of another kind or is empty, a column is missing,
            or a line has too few or too many fields.
    """
    ending = table_format(path)
    with open_text(path) as file:
        items = _json_lines(file, path) if "json" in ending else _separated(file, path, ending)
        records = [
            LabelledRecord(fields, f"{source_name(path)}, line {line}", number)
            for number, (line, fields) in enumerate(items, start=1)
        ]
    if not records:
        raise DataError(f"{path} holds no record.")
    present = list(dict.fromkeys(name for record in records for name in record.fields))
    if len(present) == 1 and ending == ".csv" and (other := _other_separator(present[0])):
        raise DataError(
            f"{path}, line 1: one column only, {present[0]!r}: its fields seem to be separated by "
            f"{other}. Separate them by commas, or by tabs in a file that ends in .tsv."
        )
    for option, column in columns.items():
        if column not in present:
            raise DataError(
                f"{path}: there is no column {column!r}.{suggestion(column, present)} "
                f"Columns: {', '.join(present)}. Choose one with "
                f"--column {option.removesuffix('_column')}=NAME."
            )
    return records


def table_format(path: str | Path) -> str:
    """Return the ending that tells the kind of a table, without ``.gz``.

    Raises:
        DataError: it is none of :data:`TABLE_FORMATS`.
    """
    ending = Path(str(path).removesuffix(".gz")).suffix.lower()
    if ending not in TABLE_FORMATS:
        raise DataError(
            f"{path}: the kind of table is told by the ending, one of {', '.join(TABLE_FORMATS)}; "
            "each may be followed by .gz."
        )
    return ending


def refuse_repeats(records: Iterable[LabelledRecord], column: str) -> None:
    """Check that no two items share an identifier.

    Raises:
        DataError: two do; names both places.
    """
    seen: dict[str, str] = {}
    for record in records:
        name = record.text(column)
        if name in seen:
            raise DataError(
                f"{record.place}: {column} {name!r} was used before ({seen[name]}). Identifiers "
                "must differ: predictions are told apart by them."
            )
        seen[name] = record.place


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table as CSV or JSON Lines, told by the ending.

    Raises:
        ConfigError: another ending, or the file cannot be written.
    """
    if path.suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"--output {path}: predictions are written as .csv or .jsonl.")
    header = list(dict.fromkeys(name for row in rows for name in row))
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            if path.suffix == ".jsonl":
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            else:
                writer = csv.DictWriter(file, header, lineterminator="\n")
                writer.writeheader()
                writer.writerows({key: _cell(row[key]) for key in row} for row in rows)
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror}.") from error


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _separated(
    file: Iterable[str], path: str | Path, ending: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line and fields of every row; quotes mean nothing in TSV, where they are part of the text."""
    is_csv = ending == ".csv"
    reader = csv.reader(
        file,
        delimiter="," if is_csv else "\t",
        quoting=csv.QUOTE_MINIMAL if is_csv else csv.QUOTE_NONE,
        strict=True,
    )
    begin = 1  # of the row that is being read
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise DataError(f"{path}, line 1: columns of the same name: {', '.join(header)}.")
        begin = reader.line_num + 1
        for values in reader:
            begin = reader.line_num + 1
            if not values:
                continue
            if len(values) != len(header):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(values)} fields, but the header has "
                    f"{len(header)} ({', '.join(header)})."
                )
            yield reader.line_num, dict(zip(header, values, strict=True))
    except csv.Error as error:
        if str(error) == "unexpected end of data":
            raise DataError(
                f"{path}, line {begin}: a quote that opens in this row is never closed. Close it, "
                "or double it if it belongs to the text."
            ) from error
        raise DataError(f"{path}, line {reader.line_num}: {error}.") from error


def _other_separator(header: str) -> str | None:
    """What stands between names where a comma should."""
    found = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
    return next((name for sign, name in found.items() if sign in header), None)


def _json_lines(file: Iterable[str], path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not JSON ({error}).") from error
        if not isinstance(item, dict):
            raise DataError(f"{path}, line {number}: a JSON object is needed, not {line[:40]!r}.")
        yield number, item
