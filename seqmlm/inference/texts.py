"""Texts as Python callers give them, looked at before they are encoded."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import TypeVar

from seqmlm.encoding import Encoding
from seqmlm.errors import DataError

Text = TypeVar("Text", str, str | Encoding)


def given_texts(texts: Sequence[Text]) -> list[Text]:
    """Return the texts as a list.

    Raises:
        DataError: a single text, whose characters would each be taken for one, or no text.
    """
    if isinstance(texts, str | bytes):
        raise DataError(f"texts = {reprlib.repr(texts)} is one text; give a list of texts.")
    found = list(texts)
    for number, text in enumerate(found, start=1):
        if not isinstance(text, str | Encoding):
            raise DataError(f"text {number} is {reprlib.repr(text)}; it must be a string.")
    return found
