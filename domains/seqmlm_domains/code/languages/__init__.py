"""The languages that the domain reads; another one is a module here and a name in the list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

from seqmlm_domains.code.languages.java import JAVA
from seqmlm_domains.code.languages.javascript import JAVASCRIPT
from seqmlm_domains.code.languages.language import Language
from seqmlm_domains.code.languages.python import PYTHON
from seqmlm_domains.code.languages.typescript import TSX, TYPESCRIPT

LANGUAGES: Final[Mapping[str, Language]] = {
    language.name: language for language in (PYTHON, JAVA, TYPESCRIPT, TSX, JAVASCRIPT)
}

SUFFIXES: Final[Mapping[str, Language]] = {
    suffix: language for language in LANGUAGES.values() for suffix in language.suffixes
}


def language_of(name: str) -> Language | None:
    """Return the language of a file of this name; None if the suffix tells of none."""
    return SUFFIXES.get(PurePath(name).suffix.lower())
