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
            language = LANGUAGES[file.language]
            is_named = all(map(_IDENTIFIER.fullmatch, words))
            if language.package_is_folder or language.modules_are_strings or not is_named:
                continue
            owners = (MODULES.decode(), *map(_owner, words))
            found |= dict.fromkeys(zip(owners, words, strict=False))
        return found

    def members(self, parsed: ParsedText, file: SourceTokens) -> list[DeclaredTypes]:
        """Return the owners of the identifiers of a file, its module named.

        Also of what it exports, or imports as a package, for others to import.
        """
        if parsed.owners is None:
            return []
        members, words = parsed.owners.members, self._words.get(file)
        if not words:
            return [members]
        own = {OWN_MODULE.decode()}
        own.update(map(_owner, LANGUAGES[file.language].types.imports.own_modules))
        renamed = (_owner(words[-1]) if name in own else name for name in members.names)
        found = [DeclaredTypes(members.numbers, tuple(renamed))]
        is_passed_on = parsed.owners.is_exported
        if file in self._packages:
            is_imported = parsed.identifiers[:, 2] == Role.IMPORT
            is_passed_on = is_passed_on | is_imported & ~members.where_any({MODULES.decode()})
        if is_passed_on.any():
            numbers = np.where(is_passed_on, 0, NO_TYPE).astype(np.int32)
            found.append(DeclaredTypes(numbers, (_owner(words[-1]),)))
        return found

    def passed_on(self, parsed: ParsedText, file: SourceTokens) -> list[tuple[str, str]]:
        """Return owner and owner where a file says that the first has all names of the second."""
        words = self._words.get(file)
        if parsed.owners is None or not words:
            return []
        own = _owner(words[-1])
        named = {OWN_MODULE.decode(): own}
        pairs = ((named.get(heir, heir), module) for heir, module in parsed.owners.passed_on)
        return [(heir, module) for heir, module in pairs if heir != module]


def _owner(word: str) -> str:
    return ITSELF.decode() + word
