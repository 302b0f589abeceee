"""Two sequences in one row: pair objectives, pair classification, questions with a context."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import NOT_MASKABLE, Encoding, IntArray
from seqmlm.errors import ConfigError
from seqmlm.vocabulary import SpecialTokens

Shorten = Literal["longest", "second"]


def join_encodings(
    first: Encoding,
    second: Encoding,
    *,
    special: SpecialTokens,
    max_length: int,
    shorten: Shorten = "longest",
) -> Encoding:
    """Return start, first, end, second, end, as BERT writes a pair; segment ids are 0 and 1.

    Content is dropped from the end of a side until the pair fits. Units keep their order; those
    of ``second`` are numbered after those of ``first``.

    Args:
        first: with its start and end token.
        second: the same; its start token is left out.
        special: of the vocabulary.
        max_length: tokens of the pair at most, special tokens included.
        shorten: ``longest`` takes from the longer side, token by token (BERT); ``second`` from
            the second side alone.

    Raises:
        ConfigError: ``max_length`` has no room for one token of each side.
    """
    left, right = _content(first, special), _content(second, special)
    room = max_length - 3
    kept_left, kept_right = _fit(len(left), len(right), room, shorten)
    if kept_left < min(1, len(left)) or kept_right < min(1, len(right)):
        raise ConfigError(
            f"data.max_length = {max_length}: a pair needs room for three special tokens and a "
            f"token of each side; the first side has {len(left)}."
        )
    left, right = left[:kept_left], right[:kept_right]
    frame = np.array([NOT_MASKABLE], np.int32)
    left_units, num_left = _renumber(first.unit_ids[left], 0)
    right_units, _ = _renumber(second.unit_ids[right], num_left)
    start, end = (np.array([token], np.int32) for token in (special.start, special.end))
    return Encoding(
        ids=np.concatenate([start, first.ids[left], end, second.ids[right], end]),
        unit_ids=np.concatenate([frame, left_units, frame, right_units, frame]),
        segment_ids=np.repeat(np.array([0, 1], np.int32), [kept_left + 2, kept_right + 1]),
        offsets=_offsets(first, second, left, right),
        unit_types=_of_units("unit_types", first, second, left, right),
        declared_types=_of_units("declared_types", first, second, left, right),
    )


def _content(encoding: Encoding, special: SpecialTokens) -> npt.NDArray[np.int64]:
    """Indices between the start and the end token, either of which may be missing."""
    indices = np.arange(len(encoding))
    if len(indices) and encoding.ids[0] == special.start:
        indices = indices[1:]
    if len(indices) and encoding.ids[indices[-1]] == special.end:
        indices = indices[:-1]
    return indices


def _fit(left: int, right: int, room: int, shorten: Shorten) -> tuple[int, int]:
    """How many tokens of each side are kept."""
    if left + right <= room:
        return left, right
    if shorten == "second":
        return left, room - left
    kept = max(room // 2, room - right)
    return min(left, kept), room - min(left, kept)


def _renumber(units: IntArray, first: int) -> tuple[IntArray, int]:
    """Units counted from ``first`` without gaps, and the number after the last."""
    renumbered = np.full(len(units), NOT_MASKABLE, np.int32)
    maskable = units >= 0
    distinct, order = np.unique(units[maskable], return_inverse=True)
    renumbered[maskable] = order + first
    return renumbered, first + len(distinct)


def _offsets(
    first: Encoding,
    second: Encoding,
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
) -> IntArray | None:
    """Each side's offsets into its own text."""
    if first.offsets is None or second.offsets is None:
        return None
    frame = np.zeros((1, 2), np.int32)
    return np.concatenate([frame, first.offsets[left], frame, second.offsets[right], frame])


def _of_units(
    name: str,
    first: Encoding,
    second: Encoding,
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
) -> IntArray | None:
    """What both sides say of their units under a name, for those that are kept."""
    of_first, of_second = getattr(first, name), getattr(second, name)
    if of_first is None or of_second is None:
        return None
    kept_first, kept_second = first.unit_ids[left], second.unit_ids[right]
    return np.concatenate(
        [
            of_first[np.unique(kept_first[kept_first >= 0])],
            of_second[np.unique(kept_second[kept_second >= 0])],
        ]
    )
