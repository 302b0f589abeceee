"""What a long text imports above the part of it that is parsed at a cursor."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Final

from seqmlm_domains.code.imports import NO_IMPORTS, ImportedNames
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.syntax import find_imports

_CHARACTERS: Final = 20_000
"""At the beginning of a text, where imports are looked for."""

_MOST_CHARACTERS: Final = 8_000
"""Of imports that are parsed: some 4 ms, once for as long as they stay the same."""

_KEPT: Final = 64


def imports_above(text: str, end: int, language: str, *, timeout_s: float) -> ImportedNames:
    """Return what the statements before a place import; nothing if they are not parsed in time.

    Args:
        text: source code.
        end: of the part that is looked at, in characters.
        language: a key of :data:`~seqmlm_domains.code.languages.LANGUAGES`.
        timeout_s: seconds that the parser may take.
    """
    found = _statement(language).findall(text, 0, min(end, _CHARACTERS))
    try:
        return _parsed("\n".join(map(str.strip, found))[:_MOST_CHARACTERS], language, timeout_s)
    except TimeoutError:
        return NO_IMPORTS


@cache
def _statement(language: str) -> re.Pattern[str]:
    return re.compile(f"^(?:{LANGUAGES[language].import_statement})", re.MULTILINE)


@lru_cache(maxsize=_KEPT)
def _parsed(text: str, language: str, timeout_s: float) -> ImportedNames:
    """What statements import; lateness, an error, is not kept."""
    found = find_imports(text, language, timeout_s=timeout_s)
    if found is None:
        raise TimeoutError
    return found
