"""The modules that the files of a project are: what each declares is imported from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import numpy as np

from seqmlm_domains.code.declared_types import NO_TYPE, DeclaredTypes
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.member_paths import ITSELF, MODULES, OWN_MODULE
from seqmlm_domains.code.modules import is_package_file, module_words
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.source_tokens import SourceTokens
from seqmlm_domains.code.syntax import ParsedText

_IDENTIFIER: Final = re.compile(r"[^\W\d]\w*")


class ProjectModules:
    """Names the owners of what files declare.

    Args:
        places: paths of the files inside the project, as far as they are in one.
    """

    def __init__(self, places: Mapping[SourceTokens, str]) -> None:
        names = frozenset(places.values())
        self._words = {file: module_words(name, names) for file, name in places.items()}
        self._packages = frozenset(file for file, name in places.items() if is_package_file(name))

    @property
    def owners(self) -> set[str]:
        """Of what the files declare."""
        return {_owner(words[-1]) for words in self._words.values() if words}

    @property
    def nesting(self) -> dict[tuple[str, str], None]:
        """Owner and word of each module that can be imported by its name, each once."""
        found: dict[tuple[str, str], None] = {}
        for file, words in self._words.items():
            if LANGUAGES[file.language].package_is_folder or not all(
                map(_IDENTIFIER.fullmatch, words)
            ):
                continue
            owners = (MODULES.decode(), *map(_owner, words))
            found |= dict.fromkeys(zip(owners, words, strict=False))
        return found

    def members(self, parsed: ParsedText, file: SourceTokens) -> list[DeclaredTypes]:
        """Return the owners of the identifiers of a file, its module named.

        Of a package also what it imports for others to import.
        """
        if parsed.owners is None:
            return []
        members, words = parsed.owners.members, self._words.get(file)
        if not words:
            return [members]
        own = OWN_MODULE.decode()
        renamed = tuple(_owner(words[-1]) if name == own else name for name in members.names)
        found = [DeclaredTypes(members.numbers, renamed)]
        if file in self._packages:
            is_passed_on = parsed.identifiers[:, 2] == Role.IMPORT
            is_passed_on &= ~members.where_any({MODULES.decode()})
            numbers = np.where(is_passed_on, 0, NO_TYPE).astype(np.int32)
            found.append(DeclaredTypes(numbers, (_owner(words[-1]),)))
        return found


def _owner(word: str) -> str:
    return ITSELF.decode() + word
