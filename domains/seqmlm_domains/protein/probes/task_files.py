"""Which files make up a labelled task: one table, or one for each of training and test."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from seqmlm.errors import DataError
from seqmlm.finetuning.records import TABLE_FORMATS

SPLITS: Final[Mapping[str, str]] = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
"""Words by which file names and cells tell the part of a split."""

_FILE = re.compile(
    rf"(?:(?P<task>.+)[._-])?(?P<split>{'|'.join(SPLITS)})"
    rf"(?:{'|'.join(map(re.escape, TABLE_FORMATS))})(?:\.gz)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class TaskFiles:
    """Where a task is read from.

    Args:
        name: of the task.
        files: by part of the split (``train``, ``validation``, ``test``), or a single one under
            ``all``, which tells the parts by a column or is split by clusters.
    """

    name: str
    files: Mapping[str, Path]


def find_tasks(path: Path) -> list[TaskFiles]:
    """Return the tasks of a file, of a folder, or of files ``PATH.train.csv``, ``PATH.test.csv``.

    A folder holds files named ``TASK.train.csv``, or ``train.csv`` for one task named like the
    folder; ``valid``, ``validation``, ``val`` and ``dev`` mean the same.

    Raises:
        DataError: there is no such file, or none in the folder; two files are the same part.
    """
    if path.is_file():
        return [TaskFiles(_stem(path), {"all": path})]
    if path.is_dir():
        found = _grouped(path, default=path.resolve().name)
        if found:
            return list(found.values())
        raise DataError(
            f"{path}: no labelled task in the folder. Looked for TASK.train.csv, TASK.valid.csv "
            f"and TASK.test.csv ({', '.join(TABLE_FORMATS)}, each also with .gz)."
        )
    found = _grouped(path.parent, default="") if path.parent.is_dir() else {}
    if path.name in found:
        return [found[path.name]]
    raise DataError(
        f"{path} does not exist, nor do files such as {path.name}.train.csv and "
        f"{path.name}.test.csv beside it."
    )


def _grouped(folder: Path, *, default: str) -> dict[str, TaskFiles]:
    files: dict[str, dict[str, Path]] = {}
    for path in _files(folder):
        match = _FILE.fullmatch(path.name)
        if match is None:
            continue
        parts = files.setdefault(match["task"] or default, {})
        split = SPLITS[match["split"].lower()]
        if split in parts:
            raise DataError(
                f"{path} and {parts[split]} are both the {split} part of one task. Keep one."
            )
        parts[split] = path
    return {name: TaskFiles(name, parts) for name, parts in files.items()}


def _files(folder: Path) -> Iterable[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}.") from error


def _stem(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).stem
