"""What the file itself says: which names stand in the cursor's context elsewhere in it."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm_domains.code.completion.context_table import LONGEST_CONTEXT, Direction
from seqmlm_domains.code.completion.name_counts import Level
from seqmlm_domains.code.source_tokens import Int32Array

_EDGE: Final = -1


def levels_in_file(
    left: Int32Array,
    right: Int32Array,
    numbers_of_words: Int32Array,
    side: Direction,
) -> list[Level]:
    """Count the names in the contexts of a gap, for every length from 0 up at which one was seen.

    Windows that touch the gap do not count. No table is kept: one pass over the file, about 1 ms
    for 50,000 tokens.

    Args:
        left: int32 ``[n]``, words before the gap.
        right: int32 ``[m]``, words behind it; those seen count, whatever the side of the context.
        numbers_of_words: int32 ``[words]``, number of the name that each word is, or -1.
        side: of the context.
    """
    if side == "right":
        left, right = right[::-1], left[::-1]
    # Read away from an edge of the file, the near part begins at it; the far part begins at the
    # gap, so that a context may not reach out of it.
    edge = np.full(LONGEST_CONTEXT, _EDGE, np.int32)
    near = np.concatenate([edge, left])
    context = near[: -LONGEST_CONTEXT - 1 : -1]
    parts = [(near, np.arange(LONGEST_CONTEXT, len(near))), (right, np.arange(len(right)))]
    parts = [(words, places[numbers_of_words[words[places]] >= 0]) for words, places in parts]
    levels: list[Level] = []
    for length in range(LONGEST_CONTEXT + 1):
        if length:
            parts = [
                (words, places[words[places - length] == context[length - 1]])
                for words, places in ((words, places[places >= length]) for words, places in parts)
            ]
        seen = np.concatenate([words[places] for words, places in parts])
        if not len(seen):
            break
        counts = np.bincount(seen)
        found = np.flatnonzero(counts)
        levels.append((numbers_of_words[found], counts[found].astype(np.float64)))
    return levels


def interpolated(base: npt.NDArray[np.float64], levels: list[Level]) -> npt.NDArray[np.float64]:
    """Return probabilities after Witten and Bell, float64 ``[names]``.

    A level's weight grows with its count and falls with the number of different names in it.

    Args:
        base: float64 ``[names]``, what is believed where nothing was seen; sums to 1.
        levels: from the shortest context to the longest.
    """
    probabilities = base.copy()
    for names, counts in levels:
        total, different = counts.sum(), len(names)
        probabilities *= different / (total + different)
        probabilities[names] += counts / (total + different)
    return probabilities
