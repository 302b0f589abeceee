"""Long sequences in overlapping windows, so that every token is judged among its neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import Encoding
from seqmlm.vocabulary import SpecialTokens


def content_range(encoding: Encoding, special: SpecialTokens) -> tuple[int, int]:
    """Return where the tokens between the start and the end token, either optional, lie."""
    first = int(len(encoding) > 0 and encoding.ids[0] == special.start)
    last = len(encoding)
    if last > first and encoding.ids[last - 1] == special.end:
        last -= 1
    return first, last


def cut(encoding: Encoding, special: SpecialTokens, start: int, stop: int) -> Encoding:
    """Return the content tokens ``start`` to ``stop`` between the special tokens of the whole.

    Units keep their numbers: the result is for reading, not for masking.
    """
    first, last = content_range(encoding, special)
    if (start, stop) == (0, last - first):
        return encoding
    kept = np.concatenate(
        [
            np.arange(first),
            np.arange(first + start, min(first + stop, last)),
            np.arange(last, len(encoding)),
        ]
    )
    return Encoding(
        ids=encoding.ids[kept],
        unit_ids=encoding.unit_ids[kept],
        segment_ids=encoding.segment_ids[kept],
        offsets=None if encoding.offsets is None else encoding.offsets[kept],
        role_ids=None if encoding.role_ids is None else encoding.role_ids[kept],
    )


def window_starts(length: int, room: int, stride: int) -> list[int]:
    """Return where windows of ``room`` tokens begin so that they cover ``length`` tokens.

    Each begins ``stride`` after the one before; the last reaches the end. At least one.
    """
    starts = list(range(0, max(length - room, 0), stride))
    return [*starts, max(length - room, 0)]


def best_windows(length: int, room: int, starts: list[int]) -> npt.NDArray[np.int64]:
    """Return for each token the window in which most tokens surround it on its poorer side.

    BERT's rule for overlapping windows; int64 ``[length]``. Of equal ones the first.
    """
    token = np.arange(length)[:, None]
    begin = np.array(starts)[None, :]
    end = np.minimum(begin + room, length)
    inside = (token >= begin) & (token < end)
    surrounding = np.minimum(token - begin, end - 1 - token)
    best: npt.NDArray[np.int64] = np.where(inside, surrounding, -1).argmax(axis=1)
    return best
