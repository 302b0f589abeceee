"""CoNLL files: a word and its label on each line, a blank line between sentences."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from seqmlm.data.text_source import open_text, source_name
from seqmlm.errors import DataError
from seqmlm.finetuning.records import LabelledRecord

DOCUMENT_START = "-DOCSTART-"


def read_conll(path: str | Path, *, text: str, labels: str) -> list[LabelledRecord]:
    """Read sentences; the first column is the word, the last of two or more its label.

    Columns are separated by tabs if the first line has one, else by blanks. Lines that are blank
    or begin with ``-DOCSTART-`` end a sentence.

    Args:
        path: plain or gzip.
        text: name of the field that gets the words.
        labels: name of the field that gets the labels; absent if there is one column.

    Raises:
        DataError: the file cannot be read, holds no word, or a line has another number of
            columns than the first; names file and line.
    """
    sentences = []
    for number, (first_line, rows) in enumerate(_sentences(path), start=1):
        fields = {text: [row[0] for row in rows]}
        if len(rows[0]) > 1:
            fields[labels] = [row[-1] for row in rows]
        place = f"{source_name(path)}, line {first_line}"
        sentences.append(LabelledRecord(fields, place, number))
    if not sentences:
        raise DataError(f"{path} holds no sentence.")
    return sentences


def _sentences(path: str | Path) -> Iterator[tuple[int, list[list[str]]]]:
    """Line of the first word, and the columns of every word, of each sentence."""
    with open_text(path) as file:
        lines = enumerate(_columns(file, path), start=1)
        for is_sentence, block in groupby(lines, key=lambda item: bool(item[1])):
            if is_sentence:
                rows = list(block)
                yield rows[0][0], [columns for _, columns in rows]


def _columns(lines: Iterator[str], path: str | Path) -> Iterator[list[str]]:
    separator: str | None = None
    expected, expected_at = 0, 0
    for number, line in enumerate(lines, start=1):
        stripped = line.rstrip("\n")
        if not stripped.strip() or stripped.startswith(DOCUMENT_START):
            yield []
            continue
        if not expected:
            separator = "\t" if "\t" in stripped else None
        columns = stripped.split(separator)
        if not expected:
            expected, expected_at = len(columns), number
        if len(columns) != expected:
            raise DataError(
                f"{path}, line {number}: {len(columns)} columns ({stripped!r}), but line "
                f"{expected_at} has {expected}. A line is a word and its label."
            )
        if not columns[0] or not columns[-1]:
            raise DataError(f"{path}, line {number}: {stripped!r} lacks the word or its label.")
        yield columns
