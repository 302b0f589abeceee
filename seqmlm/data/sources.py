"""Files that sources stand for: paths, folders, glob patterns and standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from seqmlm.data.report import ReadReport
from seqmlm.data.text_source import STANDARD_INPUT
from seqmlm.errors import DataError


def find_files(
    sources: Sequence[str | Path], report: ReadReport, *, suffixes: Sequence[str], noun: str
) -> Iterator[str | Path]:
    """Yield the files of paths, folders, glob patterns or ``-``, in order.

    Args:
        sources: a folder is searched recursively for ``suffixes``, in sorted order; a path that
            exists is no pattern.
        report: notes the files of folders that are passed over.
        suffixes: lower-case, each also read with ``.gz``.
        noun: what the files hold, for messages ("sequence", "text").

    Raises:
        DataError: a pattern matches nothing, or a folder holds no such file or cannot be read.
    """
    for source in sources:
        if str(source) == STANDARD_INPUT:
            yield STANDARD_INPUT
        elif os.path.isdir(source):
            yield from _files_in_folder(Path(source), report, tuple(suffixes), noun)
        elif glob.has_magic(str(source)) and not os.path.exists(source):
            # Without folders: `data/**` matches data/ and every file below it.
            matches = [
                path for path in glob.glob(str(source), recursive=True) if not os.path.isdir(path)
            ]
            if not matches:
                raise DataError(f"No file matches the pattern {str(source)!r}.")
            yield from sorted(matches)
        else:
            yield source


def _files_in_folder(
    folder: Path, report: ReadReport, suffixes: tuple[str, ...], noun: str
) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error

    found = False
    # Links to folders are not followed, so a link to a parent cannot loop.
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if not name.lower().removesuffix(".gz").endswith(suffixes):
                report.note(f"file without a {noun} suffix skipped", str(path))
                continue
            found = True
            yield path
    if not found:
        raise DataError(
            f"{folder}: no {noun} file in the folder; looked for {', '.join(suffixes)}, "
            "each also with .gz. Name the files or use a pattern."
        )
