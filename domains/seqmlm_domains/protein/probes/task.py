"""Labelled proteins, parted into training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.errors import DataError, suggestion
from seqmlm.finetuning.records import LabelledRecord, read_table
from seqmlm_domains.protein.probes.split import clusters_of, parts_of_groups
from seqmlm_domains.protein.probes.task_files import SPLITS, TaskFiles

Level = Literal["protein", "residue"]

SEQUENCE_COLUMNS: Final = ("sequence", "seq", "primary", "protein")
LABEL_COLUMNS: Final = ("label", "labels", "class", "target")
SPLIT_COLUMNS: Final = ("split", "set", "stage")

HELD_OUT = {"validation": 0.1, "test": 0.2}
"""Shares of the clusters of 5-mers that are held out where the data do not say what is."""

MOST_CLASSES_PER_LABEL = 0.5
LABELS_JUDGED_FROM = 20
"""Training labels below which many different ones prove nothing."""


class NoClassesError(DataError):
    """The labels of a task are measured values, or there is nothing to fit to or to test on."""


@dataclass(frozen=True)
class LabelledProtein:
    """One protein with its labels.

    Args:
        encoding: of the whole protein.
        labels: one for the protein, or one for each residue.
        place: file and line, for messages.
    """

    encoding: Encoding
    labels: tuple[str, ...]
    place: str


@dataclass(frozen=True)
class ProbeTask:
    """Proteins to fit a probe to, to choose its penalty by, and to judge it by.

    Args:
        name: of the task.
        level: what a label belongs to.
        train: to fit to.
        validation: to choose by.
        test: to judge by.
        split: in words, who decided what is tested.
    """

    name: str
    level: Level
    train: tuple[LabelledProtein, ...]
    validation: tuple[LabelledProtein, ...]
    test: tuple[LabelledProtein, ...]
    split: str


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a task's tables; the usual ones where absent.

    Args:
        sequence: amino acids in one-letter codes.
        label: one of the protein, or as many characters as residues.
    """

    sequence: str | None = None
    label: str | None = None


def read_task(
    files: TaskFiles, domain: Domain, *, columns: Columns | None = None, seed: int = 0
) -> ProbeTask:
    """Read a task.

    Labels belong to residues where at least half of the records have as many characters (or items
    of a JSON list) in the label as in the sequence. Without validation data a tenth of the
    clusters of the training data is held out; without training data the validation data stand in.

    Args:
        files: CSV, TSV or JSON Lines, plain or gzip.
        domain: of the model: encodes the proteins, tells clusters.
        columns: else the usual names.
        seed: of what is drawn.

    Raises:
        DataError: a file or line cannot be used; names it.
        NoClassesError: the labels are no classes, or nothing is there to test on.
    """
    chosen = columns or Columns()
    rows = {part: _rows(path, chosen) for part, path in files.files.items()}
    level = _level([row for part in rows.values() for row in part])
    proteins = {
        part: [_labelled(row, level, domain) for row in found] for part, found in rows.items()
    }
    if "all" in proteins:
        parts, split = _parts(rows["all"], proteins["all"], files.files["all"], domain, seed)
    else:
        parts, split = proteins, "the files'"
    task = _with_all_parts(files.name, level, parts, split, domain, seed)
    _require_classes(task)
    return task


@dataclass(frozen=True)
class _Row:
    sequence: str
    label: Any
    split: str | None
    place: str


def _rows(path: Path, columns: Columns) -> list[_Row]:
    records = read_table(path, {})
    present = list(dict.fromkeys(name for record in records for name in record.fields))
    sequence = _column(columns.sequence, SEQUENCE_COLUMNS, present, path, "--sequence-column")
    label = _column(columns.label, LABEL_COLUMNS, present, path, "--label-column")
    split = next((name for name in SPLIT_COLUMNS if name in present), None)
    return [
        _Row(
            record.text(sequence),
            _label(record, label),
            None if split is None else record.text(split),
            record.place,
        )
        for record in records
    ]


def _column(
    given: str | None, usual: Sequence[str], present: Sequence[str], path: Path, option: str
) -> str:
    if given is None:
        for name in usual:
            if name in present:
                return name
        near = next(filter(None, (suggestion(name, present) for name in usual)), "")
        raise DataError(
            f"{path}: no column is called {' or '.join(usual)}.{near} "
            f"Columns: {', '.join(present)}. Choose one with {option} NAME."
        )
    if given not in present:
        raise DataError(
            f"{path}: there is no column {given!r}.{suggestion(given, present)} "
            f"Columns: {', '.join(present)}. Choose one with {option} NAME."
        )
    return given


def _label(record: LabelledRecord, column: str) -> Any:
    value = record.fields.get(column)
    if isinstance(value, list):
        return [str(item) for item in value]
    text = record.text(column)
    if not text:
        raise DataError(f"{record.place}: {column!r} has no value.")
    return text


def _level(rows: Sequence[_Row]) -> Level:
    per_residue = sum(_is_per_residue(row) for row in rows)
    return "residue" if per_residue * 2 >= len(rows) else "protein"


def _is_per_residue(row: _Row) -> bool:
    return len(row.label) == len(row.sequence) and (
        len(row.label) > 1 or isinstance(row.label, list)
    )


def _labelled(row: _Row, level: Level, domain: Domain) -> LabelledProtein:
    try:
        encoding = domain.parse(row.sequence)
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from error
    if level == "protein":
        if isinstance(row.label, list):
            raise DataError(
                f"{row.place}: {len(row.label)} labels for {len(row.sequence)} residues, while "
                "most lines have one label for the protein."
            )
        return LabelledProtein(encoding, (row.label,), row.place)
    if len(row.label) != len(row.sequence):
        raise DataError(
            f"{row.place}: {len(row.label):,} labels for {len(row.sequence):,} residues; labels of "
            "residues are as many as the sequence has characters."
        )
    assert encoding.offsets is not None
    starts = encoding.offsets[1:-1, 0].tolist()
    return LabelledProtein(encoding, tuple(row.label[start] for start in starts), row.place)


def _parts(
    rows: Sequence[_Row],
    proteins: Sequence[LabelledProtein],
    path: Path,
    domain: Domain,
    seed: int,
) -> tuple[dict[str, list[LabelledProtein]], str]:
    """Part one table by its column, or by clusters."""
    if rows[0].split is None:
        drawn = parts_of_groups(clusters_of(domain, [p.encoding for p in proteins]), HELD_OUT, seed)
        return {
            part: [proteins[index] for index in np.flatnonzero(drawn == part).tolist()]
            for part in ("train", *HELD_OUT)
        }, f"{path.name} split at random by clusters of shared 5-mers"
    parts: dict[str, list[LabelledProtein]] = {}
    for row, protein in zip(rows, proteins, strict=True):
        part = SPLITS.get((row.split or "").strip().lower())
        if part is None:
            raise DataError(f"{row.place}: split is {row.split!r}; allowed: {', '.join(SPLITS)}.")
        parts.setdefault(part, []).append(protein)
    return parts, f"the column of {path.name}"


def _with_all_parts(
    name: str,
    level: Level,
    parts: Mapping[str, Sequence[LabelledProtein]],
    split: str,
    domain: Domain,
    seed: int,
) -> ProbeTask:
    test, validation = parts.get("test", ()), parts.get("validation", ())
    train = parts.get("train", ())
    if not test or not (train or validation):
        found = [part for part, proteins in parts.items() if proteins]
        raise NoClassesError(
            f"{name}: training (or validation) and test examples are needed; there are only "
            f"those of {', '.join(found)}. Name files {name}.train.csv and {name}.test.csv, or add "
            "a column 'split'; one table alone is split by clusters, of which it needs several."
        )
    if not train:
        train, validation = validation, ()
        split += "; no training data, so the validation data stand in"
    if not validation:
        groups = clusters_of(domain, [protein.encoding for protein in train])
        drawn = parts_of_groups(groups, {"validation": HELD_OUT["validation"]}, seed)
        validation = [train[index] for index in np.flatnonzero(drawn == "validation").tolist()]
        train = [train[index] for index in np.flatnonzero(drawn == "train").tolist()]
        split += "; a tenth of the training clusters chooses the penalty"
    return ProbeTask(name, level, tuple(train), tuple(validation), tuple(test), split)


def _require_classes(task: ProbeTask) -> None:
    labels = [label for protein in task.train for label in protein.labels]
    classes = set(labels)
    if len(classes) < 2:
        raise DataError(
            f"{task.name}: all training labels are {labels[0]!r}; a probe needs two classes."
        )
    are_many = len(labels) >= LABELS_JUDGED_FROM and (
        len(classes) > MOST_CLASSES_PER_LABEL * len(labels)
    )
    if are_many or any(map(_is_measured, classes)):
        raise NoClassesError(
            f"{task.name}: {len(classes):,} different labels in {len(labels):,} training examples "
            f"(such as {labels[0]!r}): these are no classes. For measured values use `seqmlm "
            "finetune RUN --task regression`."
        )


def _is_measured(label: str) -> bool:
    """Whether a label is a number with decimals."""
    try:
        return not label.isdigit() and not float(label).is_integer()
    except ValueError:
        return False


def bounded(task: ProbeTask, max_examples: int, *, seed: int) -> ProbeTask:
    """Return the task with at most so many training labels, of proteins drawn at random."""
    order = np.random.default_rng(seed).permutation(len(task.train))
    ends = np.cumsum([len(task.train[index].labels) for index in order.tolist()])
    kept = np.sort(order[: max(1, int(np.searchsorted(ends, max_examples, side="right")))])
    return replace(task, train=tuple(task.train[index] for index in kept.tolist()))
