"""Predictions beside what was read: every line of the input is a line of the output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqmlm.errors import ConfigError
from seqmlm.finetuning.records import write_rows
from seqmlm.finetuning.task import Task
from seqmlm.finetuning.workload import LabelledPart


def write_predictions(
    path: Path, task: Task[Any, Any], part: LabelledPart, answers: Sequence[Any]
) -> None:
    """Write CSV or JSON Lines in the order of the input.

    Lines of items that could not be encoded have empty predictions.

    Args:
        path: to write; its ending tells the format.
        task: made the predictions.
        part: the items.
        answers: of ``part.examples``.

    Raises:
        ConfigError: the input has a column of a name that predictions get, or the file cannot be
            written.
    """
    added: dict[int, list[dict[str, Any]]] = {}
    for (position, example), answer in zip(part.examples, answers, strict=True):
        added[position] = task.columns(example, answer)
    names = list(dict.fromkeys(name for lines in added.values() for line in lines for name in line))
    rows: list[tuple[int, dict[str, Any]]] = []
    for position, record in enumerate(part.records):
        lines = task.lines(record)
        blank = [dict.fromkeys(names, "") for _ in lines]
        for (number, fields), columns in zip(lines, added.get(position, blank), strict=True):
            if taken := fields.keys() & columns.keys():
                raise ConfigError(
                    f"{record.place}: the input has a column {min(taken)!r} already, the name of "
                    "what would be written beside it. Rename that column."
                )
            rows.append((number, fields | columns))
    rows.sort(key=lambda row: row[0])
    write_rows(path, [fields for _, fields in rows])
