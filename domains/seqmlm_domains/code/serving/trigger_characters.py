"""Characters at which an editor asks for completions of itself, and where names follow them."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from seqmlm_domains.code.languages import LANGUAGES

TRIGGER_CHARACTERS: Final = (".", ":", "@", "<", "/", "#")
"""All of all languages: a server cannot tell an editor which are for which."""


def is_name_due(source: str, offset: int, language: str) -> bool:
    """Say whether a name follows the sign that ends at an offset.

    Elsewhere a list would open that nobody wants, as at a comparison. That the sign may stand in a
    comment or a literal is not looked at: no names are completed there.

    Args:
        source: the whole text.
        offset: of the cursor, in characters.
        language: a key of :data:`~seqmlm_domains.code.languages.LANGUAGES`.
    """
    line = source[source.rfind("\n", 0, offset) + 1 : offset]
    return _signs(language).search(line) is not None


@cache
def _signs(language: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{LANGUAGES[language].name_signs})\Z")
