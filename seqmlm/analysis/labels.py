"""Labelled texts for probes: one label per text, or one per word."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqmlm.data.text_source import open_text, source_name
from seqmlm.errors import ConfigError, DataError
from seqmlm.finetuning.conll import COLUMNS, sentences_of
from seqmlm.finetuning.records import read_table

JSON_SUFFIXES = (".jsonl", ".ndjson")
CSV_SUFFIX = ".csv"

FORMATS = (
    "Read are JSON Lines (.jsonl, .ndjson) and CSV (.csv) with text and label, for whole texts; "
    f"and, of any other ending, lines of words. {COLUMNS}"
)


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One text whose words carry labels; a text with a label of its own is a single word.

    Args:
        words: one or more.
        labels: one per word.
        document: texts of one document must not be parted between training and test.
        place: file and line, for messages.
    """

    words: tuple[str, ...]
    labels: tuple[str, ...]
    document: str
    place: str


def read_labelled_texts(path: str | Path) -> list[LabelledText]:
    """Read a file of labels, plain or gzip-compressed.

    JSON Lines (``.jsonl``, ``.ndjson``): objects with ``text`` and ``label``, and perhaps
    ``document``; without, each text is a document. CSV (``.csv``): the same as columns. Any other
    suffix: a word and its label per line, or CoNLL-U, of which words and parts of speech are read;
    see :func:`~seqmlm.finetuning.conll.sentences_of`. Without marks of documents each text is one.

    Raises:
        DataError: the file cannot be read or is empty, or a line is not as above; names the line.
    """
    place = source_name(path)
    stem = str(path).removesuffix(".gz")
    if stem.endswith(CSV_SUFFIX):
        return _csv_texts(path)
    with open_text(path) as lines:
        read = _json_texts if stem.endswith(JSON_SUFFIXES) else _column_texts
        texts = list(read(lines, place))
    if not texts:
        raise DataError(f"{place}: no labelled text in it.")
    return texts


def bounded(texts: Sequence[LabelledText], max_words: int, *, seed: int) -> list[LabelledText]:
    """Return texts of at most so many words together, drawn at random, in their own order.

    Raises:
        ConfigError: ``max_words`` is below 2.
        DataError: the text drawn first has more words.
    """
    if max_words < 2:
        raise ConfigError(f"max words = {max_words}: must be at least 2.")
    order = np.random.default_rng(seed).permutation(len(texts))
    ends = np.cumsum([len(texts[index].words) for index in order.tolist()])
    chosen = order[: np.searchsorted(ends, max_words, side="right")]
    if not len(chosen):
        raise DataError(
            f"{texts[order[0]].place}: {ends[0]:,} words in one text, but max words = "
            f"{max_words:,}. Take more words, or part the texts by empty lines."
        )
    return [texts[index] for index in np.sort(chosen).tolist()]


def _csv_texts(path: str | Path) -> list[LabelledText]:
    records = read_table(path, {})
    present = records[0].fields
    if not {"text", "label"} <= present.keys():
        raise DataError(
            f"{path}: the columns are {', '.join(present)}; 'text' and 'label' are needed. "
            f"{FORMATS}"
        )
    return [
        LabelledText(
            (record.text("text"),),
            (record.text("label"),),
            record.text("document") if "document" in present else str(record.number),
            record.place,
        )
        for record in records
    ]


def _json_texts(lines: Iterable[str], place: str) -> Iterator[LabelledText]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        here = f"{place}, line {number}"
        try:
            item: Any = json.loads(line)
        except ValueError as error:
            raise DataError(f"{here}: not JSON ({error}).") from error
        if not isinstance(item, dict) or not isinstance(item.get("text"), str):
            raise DataError(f"{here}: it must be an object with a string 'text' and a 'label'.")
        label = item.get("label")
        if not isinstance(label, str | int):
            raise DataError(f"{here}: label = {label!r}; it must be a string or a whole number.")
        document = item.get("document", number)
        yield LabelledText((item["text"],), (str(label),), str(document), here)


def _column_texts(lines: Iterable[str], place: str) -> Iterator[LabelledText]:
    for sentence in sentences_of(lines, place):
        here = f"{place}, line {sentence.line}"
        if not sentence.labels:
            raise DataError(
                f"{here}: {sentence.words[0]!r}: a word and its label are needed. {FORMATS}"
            )
        words, labels = tuple(sentence.words), tuple(sentence.labels)
        yield LabelledText(words, labels, str(sentence.document), here)
