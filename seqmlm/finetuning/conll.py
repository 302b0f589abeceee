"""CoNLL files: a word and its label on each line, a blank line between sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from seqmlm.data.text_source import open_text, source_name
from seqmlm.errors import DataError
from seqmlm.finetuning.records import LabelledRecord

DOCUMENT_MARKS = ("-DOCSTART-", "# newdoc")
"""Beginnings of lines that open a document, of CoNLL-2003 and of Universal Dependencies."""

MOST_COLUMNS = 5
"""Of files whose first column is the word and whose last is its label, as those of CoNLL-2000 to
CoNLL-2003."""

CONLLU_COLUMNS = 10
COLUMNS = (
    "A line is a word and its label, apart by a tab or blanks; of three to five columns the first "
    "and the last (CoNLL-2003); or the ten of CoNLL-U, of which FORM and UPOS are read."
)

_WORD_NUMBER = re.compile(r"\d+")
_ANY_NUMBER = re.compile(r"\d+([-.]\d+)?")  # 3-4 is a token of several words, 3.1 an empty node
_NAMED_COMMENT = re.compile(r"#\s*[^\s=]+\s+=\s")


@dataclass(slots=True)
class Sentence:
    """The words between two blank lines.

    Args:
        line: of the first word, counted from 1.
        document: number of its document; each sentence is one where none is marked.
        words: at least one.
        labels: one per word, or none at all if the file has a single column.
    """

    line: int
    document: int
    words: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def read_conll(path: str | Path, *, text: str, labels: str) -> list[LabelledRecord]:
    """Read the sentences of a file; see :func:`sentences_of`.

    Args:
        path: plain or gzip.
        text: name of the field that gets the words.
        labels: name of the field that gets the labels; absent if there is one column.

    Raises:
        DataError: the file cannot be read, holds no word, or a line is not as it must be; names
            file and line.
    """
    place = source_name(path)
    records = []
    with open_text(path) as file:
        for number, sentence in enumerate(sentences_of(file, place), start=1):
            fields = {text: sentence.words}
            if sentence.labels:
                fields[labels] = sentence.labels
            records.append(LabelledRecord(fields, f"{place}, line {sentence.line}", number))
    if not records:
        raise DataError(f"{path} holds no sentence.")
    return records


def sentences_of(lines: Iterable[str], place: str) -> Iterator[Sentence]:
    """Yield the sentences of lines of a word and its label.

    Columns are apart by tabs if the first line of a word has one, else by blanks. Of two to five
    the first is the word and the last its label, a single one is the word. Ten whose first is a
    number are CoNLL-U: FORM and UPOS are read, tokens of several words (``3-4``) and empty nodes
    (``3.1``) passed over, because the words themselves have lines of their own.

    Blank lines, and those that begin with ``-DOCSTART-`` or ``# newdoc``, end a sentence; the
    latter begin a document. Other lines that begin with ``# `` are comments, except for those of
    as many columns as the words before, such as the pound sign of ``# # B-NP``; ``# name = value``
    is one always.

    Args:
        lines: of a file.
        place: its name, for messages.

    Raises:
        DataError: a line has another number of columns than the first or than is allowed, or lacks
            the word or its label; names the line.
    """
    reader = _Rows(place)
    sentence: Sentence | None = None
    document, has_documents = 0, False
    for number, line in enumerate(lines, start=1):
        begins_document = line.startswith(DOCUMENT_MARKS)
        if begins_document or not line.strip():
            if sentence is not None:
                yield sentence
                sentence = None
                document += not has_documents
            has_documents |= begins_document
            document += begins_document
            continue
        row = reader.word_and_label(line.rstrip("\n"), number)
        if row is None:
            continue
        sentence = sentence or Sentence(number, document)
        sentence.words.append(row[0])
        sentence.labels += row[1:]
    if sentence is not None:
        yield sentence


class _Rows:
    """Takes lines apart; the first one of a word says how."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._separator: str | None = None
        self._expected, self._expected_at = 0, 0
        self._is_conllu = False

    def word_and_label(self, line: str, number: int) -> list[str] | None:
        """The word, and its label if there is one; None for a line that is to be passed over."""
        if not self._expected and line.startswith("# "):
            return None
        if not self._expected:
            self._learn(line, number)
        columns = line.split(self._separator)
        if line.startswith("#") and self._is_comment(line, len(columns)):
            return None
        if len(columns) != self._expected:
            raise DataError(
                f"{self._place}, line {number}: {len(columns)} columns ({line!r}), but line "
                f"{self._expected_at} has {self._expected}. {COLUMNS}"
            )
        row = [columns[0], columns[-1]] if len(columns) > 1 else columns
        if self._is_conllu:
            if not _ANY_NUMBER.fullmatch(columns[0]):
                raise DataError(
                    f"{self._place}, line {number}: {columns[0]!r} is not the number of a word, "
                    f"which is what the first of the ten columns of CoNLL-U must be. {COLUMNS}"
                )
            if not _WORD_NUMBER.fullmatch(columns[0]):
                return None
            row = [columns[1], "" if columns[3] == "_" else columns[3]]
        if not all(row):
            raise DataError(
                f"{self._place}, line {number}: {line!r} lacks the word or its label. {COLUMNS}"
            )
        return row

    def _learn(self, line: str, number: int) -> None:
        self._separator = "\t" if "\t" in line else None
        self._expected, self._expected_at = len(line.split(self._separator)), number
        self._is_conllu = self._expected == CONLLU_COLUMNS
        if self._expected > MOST_COLUMNS and not self._is_conllu:
            raise DataError(
                f"{self._place}, line {number}: {self._expected} columns ({line!r}). {COLUMNS}"
            )

    def _is_comment(self, line: str, num_columns: int) -> bool:
        if self._is_conllu:
            return True  # every word of CoNLL-U begins with its number
        if _NAMED_COMMENT.match(line):
            return True
        return line.startswith("# ") and num_columns != self._expected
