"""A place in a source file, as a command line names it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.code.languages import SUFFIXES, language_of

_LINE_END: Final = re.compile(r"\r\n|\r|\n")


def read_text(path: Path) -> str:
    """Return the text of a file with its own line ends, without a byte-order mark.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode().removeprefix("\ufeff")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: byte offset {error.start:,}.") from error


def language_at(path: Path) -> str:
    """Return the language of a file of this name.

    Raises:
        DataError: its suffix tells of none.
    """
    language = language_of(path.name)
    if language is None:
        raise DataError(
            f"{path}: {path.suffix!r} is the suffix of no language that is known here. Known: "
            f"{', '.join(sorted(SUFFIXES))}."
        )
    return language.name


def offset_at(text: str, *, offset: int | None, line: int | None, column: int | None) -> int:
    """Return a place in characters from the start, given so or as line and column from 1.

    ``\\r\\n`` is one line end of two characters.

    Raises:
        ConfigError: both are given or neither is, or the place is outside the text.
    """
    if (offset is None) == (line is None) or (line is None) != (column is None):
        raise ConfigError("Say where the cursor is: --offset, or --line together with --column.")
    if offset is not None:
        if offset > len(text):
            raise ConfigError(f"--offset {offset}: the file has {len(text):,} characters.")
        return offset
    assert line is not None, "checked above"
    assert column is not None, "checked above"
    line_ends = [found.span() for found in _LINE_END.finditer(text)]
    starts = [0, *(end for _, end in line_ends)]
    if line > len(starts):
        raise ConfigError(f"--line {line}: the file has {len(starts):,} lines.")
    start = starts[line - 1]
    length = [*(begin for begin, _ in line_ends), len(text)][line - 1] - start
    if column > length + 1:
        raise ConfigError(
            f"--column {column}: line {line} has {length:,} characters, so the last place is "
            f"column {length + 1}."
        )
    return start + column - 1
