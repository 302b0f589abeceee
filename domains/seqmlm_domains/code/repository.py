"""Finds the source files of repositories."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seqmlm.data.report import ReadReport
from seqmlm.errors import DataError
from seqmlm_domains.code.ignored import IgnoreRules
from seqmlm_domains.code.languages import SUFFIXES, language_of


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that may be read.

    Args:
        path: where it is.
        name: its path inside the folder that was asked for, with ``/``; else the file name.
            Bytes that are no UTF-8 are U+FFFD in it.
        language: a key of :data:`~seqmlm_domains.code.languages.LANGUAGES`.
    """

    path: Path
    name: str
    language: str


def find_source_files(sources: Sequence[str | Path], report: ReadReport) -> Iterator[SourceFile]:
    """Yield the source files of paths, folders and glob patterns, in sorted order.

    Of a folder, what git ignores, what is hidden (a name that begins with a dot), links and files
    of other suffixes are passed over and noted. A path that is named is read whatever git says.

    Args:
        sources: a path that exists is no pattern.
        report: notes what is passed over.

    Raises:
        DataError: a source does not exist or has the suffix of no language, a pattern matches
            nothing, or a folder holds no source file or cannot be read.
    """
    for source in sources:
        if os.path.isdir(source):
            yield from _files_in_folder(Path(source), report)
        elif glob.has_magic(str(source)) and not os.path.exists(source):
            matches = sorted(
                path for path in glob.glob(str(source), recursive=True) if not os.path.isdir(path)
            )
            if not matches:
                raise DataError(f"No file matches the pattern {str(source)!r}.")
            for match in matches:
                yield _named(Path(match), match)
        else:
            yield _named(Path(source), Path(source).name)


def _named(path: Path, name: str) -> SourceFile:
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    language = language_of(path.name)
    if language is None:
        raise DataError(
            f"{path}: {path.suffix!r} is the suffix of no language that is known "
            f"here. Known: {', '.join(sorted(SUFFIXES))}."
        )
    return SourceFile(path, printable(name), language.name)


def _files_in_folder(root: Path, report: ReadReport) -> Iterator[SourceFile]:
    found = False
    rules_of = {root.resolve(): IgnoreRules.above(root)}

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error

    # Links are not followed, so a link to a parent cannot loop.
    for parent, folders, names in os.walk(root, onerror=refuse):
        folder = Path(parent).resolve()
        rules = rules_of.pop(folder).inside(folder)
        folders[:] = [
            name
            for name in sorted(folders)
            if not _passed_over(folder / name, rules, report, is_folder=True)
        ]
        rules_of |= {folder / name: rules for name in folders}
        for name in sorted(names):
            path = Path(parent, name)
            if _passed_over(folder / name, rules, report, is_folder=False):
                continue
            language = language_of(name)
            if language is None:
                report.note("file without the suffix of a language skipped", printable(path))
                continue
            found = True
            relative = path.relative_to(root).as_posix()
            yield SourceFile(path, printable(relative), language.name)
    if not found:
        raise DataError(
            f"{root}: no source file in the folder, or git ignores all of them; looked for "
            f"{', '.join(sorted(SUFFIXES))}."
        )


def _passed_over(path: Path, rules: IgnoreRules, report: ReadReport, *, is_folder: bool) -> bool:
    noun = "folder" if is_folder else "file"
    if path.name.startswith("."):
        reason = f"hidden {noun} skipped"
    elif path.is_symlink():
        reason = "link skipped"
    elif rules.ignores(path, is_folder=is_folder):
        reason = f"{noun} that git ignores skipped"
    else:
        return False
    report.note(reason, printable(path))
    return True


def printable(path: str | Path) -> str:
    """Return a path as text that can be written as UTF-8, which names on disk need not be."""
    return os.fsencode(path).decode(errors="replace")
