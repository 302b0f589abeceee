"""Tables of variants: what is read from them, and the same rows with scores."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmlm.errors import ConfigError, DataError, suggestion
from seqmlm.finetuning.records import LabelledRecord, read_table, write_rows
from seqmlm_domains.protein.variants.scorer import VariantScores

SCORE_COLUMN = "score"
REASON_COLUMN = "reason"
OUTPUT_FORMATS = (".csv", ".jsonl")

_MUTATION = re.compile(r"[A-Z]\d+[A-Z*]\b")


@dataclass(frozen=True)
class MutationTable:
    """The rows of a file of variants.

    Args:
        records: every row.
        variants: of each row, as written.
        measured: of each row; NaN where the cell is empty. None where nothing was measured.
    """

    records: Sequence[LabelledRecord]
    variants: Sequence[str]
    measured: Sequence[float] | None


def read_mutations(
    path: str | Path, *, column: str | None = None, measured: str | None = None
) -> MutationTable:
    """Read CSV, TSV or JSON Lines, plain or gzip; a byte-order mark is skipped.

    Args:
        path: file, told by its ending.
        column: of the variants; the first if not given.
        measured: column of numbers, higher is fitter; cells may be empty.

    Raises:
        DataError: the file cannot be used, lacks its header or a column, or a measured value is no
            number.
    """
    records = read_table(path, {})
    present = list(dict.fromkeys(name for record in records for name in record.fields))
    if column is None:
        _check_header(path, present)
    for option, name in (("--column", column), ("--measured", measured)):
        if name is not None and name not in present:
            raise DataError(
                f"{path}: there is no column {name!r}.{suggestion(name, present)} "
                f"Columns: {', '.join(present)}. Choose one with {option} NAME."
            )
    chosen = present[0] if column is None else column
    return MutationTable(
        records,
        [_cell(record, chosen) for record in records],
        None if measured is None else [_number(record, measured) for record in records],
    )


def check_output(path: Path, table: MutationTable) -> None:
    """Refuse what :func:`write_scores` could not write, before anything is scored.

    Raises:
        ConfigError: the ending of ``path``, its folder, or a column of the table.
    """
    if path.suffix not in OUTPUT_FORMATS:
        raise ConfigError(f"--output {path}: scores are written as {' or '.join(OUTPUT_FORMATS)}.")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--output {path}: there is no folder {path.parent}.")
    for record in table.records:
        if taken := record.fields.keys() & {SCORE_COLUMN, REASON_COLUMN}:
            raise ConfigError(
                f"{record.place}: the table has a column {min(taken)!r} already, the name of what "
                "would be written beside it. Rename that column."
            )


def write_scores(path: Path, table: MutationTable, scores: VariantScores) -> None:
    """Write every row as read, with its score in nats, or an empty score and the reason.

    Args:
        path: that :func:`check_output` accepts.
        table: the rows.
        scores: of its variants, in order.

    Raises:
        ConfigError: the file cannot be written.
    """
    rows: list[dict[str, Any]] = []
    for record, item in zip(table.records, scores.items, strict=True):
        added = {SCORE_COLUMN: "" if item.score is None else item.score, REASON_COLUMN: item.reason}
        rows.append({**record.fields, **added})
    write_rows(path, rows)


def _check_header(path: str | Path, columns: Sequence[str]) -> None:
    """Refuse a table that would lose its first row, or has all columns in one."""
    if _MUTATION.match(columns[0]):
        raise DataError(
            f"{path}: the first line begins with {columns[0]!r}, a mutation, where the names of "
            "the columns are needed. Put a line such as 'mutant' above it."
        )
    if len(columns) == 1 and (found := re.search(r"[;\t]", columns[0])):
        raise DataError(
            f"{path}: the only column is {columns[0]!r}. Part columns by commas in .csv and by "
            f"tabs in .tsv, not by {found[0]!r}."
        )


def _cell(record: LabelledRecord, column: str) -> str:
    value = record.fields.get(column)
    return "" if value is None else str(value)


def _number(record: LabelledRecord, column: str) -> float:
    text = _cell(record, column).strip()
    if text.lower() in ("", "na", "nan"):
        return math.nan
    try:
        return float(text)
    except ValueError as error:
        raise DataError(
            f"{record.place}: {column} is {text!r}; a number is needed, or nothing."
        ) from error
