"""Where sentences begin, told from tokens alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from seqmlm_domains.text.chinese import HAN

_CLOSING: Final = r"[\"'\u2019\u201d\u300d\u300f\uff09)\]]*"
_ENDS_BEFORE_BLANK = re.compile(rf" ?[.!?\u2026]+{_CLOSING}")
_ENDS = re.compile(rf" ?[\u3002\uff01\uff1f]+{_CLOSING}|[^\n]*\n\s*")


class SentenceStarts:
    """Finds the first tokens of sentences and of lines.

    A sentence ends with a full stop, an exclamation or a question mark before a blank or a Chinese
    character, with their Chinese counterparts, and with the line. An abbreviation ends one too,
    unless a sign or a digit follows without a blank: segments need not be sentences to the letter.

    Args:
        texts: what each token of the vocabulary stands for, by id.
        has_blanks: whether tokens hold the blanks of the text; if not (WordPiece), none is needed.
    """

    def __init__(self, texts: Iterable[str], *, has_blanks: bool) -> None:
        tokens = list(texts)
        self._ends = _matching(_ENDS, tokens)
        self._ends_before_blank = _matching(_ENDS_BEFORE_BLANK, tokens)
        self._is_line_end = _matching(re.compile(r"\s*\n\s*"), tokens)
        self._is_blank = np.array([text.isspace() for text in tokens], np.bool_)
        may_begin = re.compile(rf"[ {HAN}].*" if has_blanks else ".*", re.DOTALL)
        self._may_begin = _matching(may_begin, tokens)

    def find(
        self, ids: npt.NDArray[np.integer[Any]], starts_word: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Return bool ``[n]``, whether a sentence begins at a token; the first one always does.

        Args:
            ids: ``[n]``.
            starts_word: bool ``[n]``; a sentence begins nowhere else, and with no line end.
        """
        starts = np.ones(len(ids), np.bool_)
        before, here = ids[:-1], ids[1:]
        ended = self._ends[before] | (self._ends_before_blank[before] & self._may_begin[here])
        ends_line = self._is_line_end[ids]
        ends_line[:-1] |= self._is_blank[ids[:-1]] & ends_line[1:]
        starts[1:] = ended & starts_word[1:] & ~ends_line[1:]
        return starts


def _matching(pattern: re.Pattern[str], texts: list[str]) -> npt.NDArray[np.bool_]:
    return np.array([pattern.fullmatch(text) is not None for text in texts], np.bool_)
