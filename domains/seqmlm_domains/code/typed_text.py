"""Code typed by a person, with mask tokens where something is to be filled in."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqmlm.errors import DataError
from seqmlm_domains.code.pieces import WORD_BYTES
from seqmlm_domains.code.source_file import with_plain_line_ends
from seqmlm_domains.code.tokenizer import CodeTokenizer, Tokens

_STAND_IN = "M"


@dataclass(frozen=True, slots=True)
class TypedText:
    """A typed text in which names stand in for masks.

    Args:
        code: the text with a name in place of each run of masks, as long as the run, so that the
            parser sees whole code and every position stays.
        visible: the parts between the runs, one more than those, without the blanks that two
            words imply: a mask counts as a word.
        starts: where each part begins in ``code``.
        runs: start of each run, and how many masks it has.
        mask_characters: of one mask.
    """

    code: str
    visible: tuple[str, ...]
    starts: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]
    mask_characters: int

    @classmethod
    def of(cls, text: str, *, mask: str) -> TypedText:
        """Take a text apart at its masks.

        Raises:
            DataError: the text holds half a surrogate pair.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"input: position {error.start + 1} is half a surrogate pair, not a character."
            ) from error
        text = with_plain_line_ends(text)
        found = list(re.finditer(f"(?:{re.escape(mask)})+", text))
        borders = [0, *(place for run in found for place in run.span()), len(text)]
        visible, starts = [], []
        for number in range(len(found) + 1):
            start, end = borders[2 * number], borders[2 * number + 1]
            after_mask, before_mask = number > 0, number < len(found)
            if after_mask and text.startswith(" ", start, end):
                start += _is_word(text[start + 1 : end], after=True, mask_beyond=before_mask)
            if before_mask and text.endswith(" ", start, end):
                end -= _is_word(text[start : end - 1], after=False, mask_beyond=after_mask)
            visible.append(text[start:end])
            starts.append(start)
        code = re.sub(f"(?:{re.escape(mask)})+", lambda run: _STAND_IN * len(run[0]), text)
        runs = tuple((run.start(), len(run[0]) // len(mask)) for run in found)
        return cls(code, tuple(visible), tuple(starts), runs, len(mask))

    def encode(self, tokenizer: CodeTokenizer) -> tuple[Tokens, npt.NDArray[np.int64]]:
        """Return the tokens of what is visible, as one text, and how many each part has."""
        tokens = tokenizer.encode(self.visible)
        shifts = np.repeat(np.array(self.starts, np.int32), tokens.lengths)[:, None]
        total = np.array([len(tokens.ids)])
        return Tokens(tokens.ids, tokens.offsets + shifts, total), tokens.lengths

    def with_masks(
        self,
        stored: npt.NDArray[np.uint64],
        offsets: npt.NDArray[np.int32],
        part_lengths: npt.NDArray[np.int64],
        *,
        mask: np.uint64,
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
        """Insert the masks between the parts.

        Args:
            stored: tokens of all parts, ``[n]``.
            offsets: int32 ``[n, 2]``.
            part_lengths: int64 ``[parts]``, tokens of each part.
            mask: the stored token.
        """
        counts = [count for _, count in self.runs]
        places = np.repeat(np.cumsum(part_lengths)[:-1], counts)
        begins = [
            start + number * self.mask_characters
            for start, count in self.runs
            for number in range(count)
        ]
        spans = np.array([[start, start + self.mask_characters] for start in begins], np.int32)
        return (
            np.insert(stored, places, mask),
            np.insert(offsets, places, spans.reshape(-1, 2), axis=0),
        )


def _is_word(text: str, *, after: bool, mask_beyond: bool) -> bool:
    """Whether what stands beyond a blank is a word: text, or a mask where there is no text."""
    if not text:
        return mask_beyond
    return text[0 if after else -1].encode()[0] in WORD_BYTES
