"""Tab-separated tables that selectors and corruptors take from a user."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from seqmlm.errors import DataError


def read_table(path: Path, *, columns: str) -> Iterator[tuple[str, list[str]]]:
    """Yield place and fields of each line; empty lines and those starting with ``#`` are skipped.

    Args:
        path: UTF-8 text.
        columns: what the table should hold, for messages.

    Raises:
        DataError: the file cannot be read, or holds no line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). It should hold {columns}.") from error
    found = False
    for number, line in enumerate(lines, start=1):
        if line and not line.startswith("#"):
            found = True
            yield f"{path}:{number}", line.split("\t")
    if not found:
        raise DataError(f"{path}: holds no line. It should hold {columns}.")


def positive_number(text: str, place: str) -> float:
    """Return a finite number above 0.

    Raises:
        DataError: ``text`` is none.
    """
    try:
        value = float(text)
    except ValueError as error:
        raise DataError(f"{place}: {text!r} is not a number.") from error
    if not 0 < value < math.inf:
        raise DataError(f"{place}: {text} must be a finite number above 0.")
    return value
