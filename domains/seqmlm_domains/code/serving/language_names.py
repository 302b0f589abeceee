"""The names that editors and people have for the languages."""

from __future__ import annotations

from typing import Final

from seqmlm_domains.code.languages import LANGUAGES, SUFFIXES

EDITOR_LANGUAGES: Final = {"typescriptreact": "tsx", "javascriptreact": "javascript"}
"""LSP's ``languageId`` -> key of :data:`LANGUAGES`, where neither that nor a suffix tells."""


def language_named(name: str) -> str | None:
    """Return the key of :data:`LANGUAGES` that a name stands for; None if it stands for none.

    Args:
        name: such a key, LSP's name, or a suffix such as ``py`` or ``jsx``; in any letter case.
    """
    name = name.lower()
    name = EDITOR_LANGUAGES.get(name, name)
    if name in LANGUAGES:
        return name
    language = SUFFIXES.get(f".{name}")
    return None if language is None else language.name
