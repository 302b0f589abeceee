"""What a file of a project is called where it is imported, and what an import calls a module."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Final

from seqmlm_domains.code.languages import LANGUAGES, SUFFIXES, language_of

_PATH: Final = re.compile(rb"(?:[a-z]+:)?([\w@.$/-]+)", re.ASCII)
"""With what is said of the kind of the module, as by ``node:fs``."""

_SOURCE_FOLDERS: Final = (("src",), ("lib",))
_PACKAGE_FILES: Final = {
    language.package_file for language in LANGUAGES.values() if language.modules_are_strings
}
_QUOTES: Final = b"\"'`"


def module_words(name: str, names: Collection[str]) -> tuple[str, ...]:
    """Return the words by which a file is imported, that of its outermost package first.

    They may be none: of a file in no package, in a language that imports packages.

    Args:
        name: path of the file inside the project.
        names: of all files.
    """
    path = PurePosixPath(name)
    language = language_of(path.name)
    if language is None:
        return ()
    folders = path.parent.parts
    if language.package_is_folder:
        return folders[-1:]
    first = len(folders)
    while first and _is_package(PurePosixPath(*folders[:first]), language.package_file, names):
        first -= 1
    own = () if path.stem == language.package_file else (path.name.partition(".")[0],)
    if language.modules_are_strings and not own and folders[-1:] in _SOURCE_FOLDERS:
        folders = folders[:-1] or folders  # a package's main file, imported by the package's name
    return (*folders[first:], *own) or folders[-1:]


def is_package_file(name: str) -> bool:
    """Say whether others import what a file imports from the package that it stands for."""
    path = PurePosixPath(name)
    language = language_of(path.name)
    return language is not None and path.stem == language.package_file


def _is_package(folder: PurePosixPath, package_file: str, names: Collection[str]) -> bool:
    return any(str(folder / f"{package_file}{suffix}") in names for suffix in SUFFIXES)


def imported_module(text: bytes) -> bytes | None:
    """Return the last word of what an import calls a module, such as ``b"./ship.js"``.

    None if it has none, as ``b".."`` of a package around.
    """
    name = text.strip(_QUOTES)
    if (found := _PATH.fullmatch(name)) is None:
        return None
    if name == text:  # words with dots between them
        return name.rpartition(b".")[2] or None
    path = PurePosixPath(found[1].decode())
    if path.name.partition(".")[0] in _PACKAGE_FILES:
        path = path.parent
    return path.name.partition(".")[0].encode() or None
