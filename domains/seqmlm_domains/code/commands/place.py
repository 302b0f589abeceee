"""A place in a source file, as a command line names it."""

from __future__ import annotations

from pathlib import Path

from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.code.languages import SUFFIXES, language_of
from seqmlm_domains.code.source_file import with_plain_line_ends


def read_text(path: Path) -> str:
    """Return the text of a file with ``\\n`` line ends.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        return with_plain_line_ends(path.read_bytes().decode())
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
    lines = text.split("\n")
    if line > len(lines):
        raise ConfigError(f"--line {line}: the file has {len(lines):,} lines.")
    if column > len(lines[line - 1]) + 1:
        raise ConfigError(
            f"--column {column}: line {line} has {len(lines[line - 1]):,} characters, so the last "
            f"place is column {len(lines[line - 1]) + 1}."
        )
    return sum(len(before) + 1 for before in lines[: line - 1]) + column - 1
