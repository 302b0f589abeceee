"""Corruptors decide what stands in the place of a chosen token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import IntArray
from seqmlm.errors import ConfigError
from seqmlm.masking.arguments import check_shares
from seqmlm.masking.selectors import Selection


@dataclass(frozen=True, slots=True)
class Corruption:
    """A corrupted sequence, or a batch of them.

    Args:
        ids: int32 ``[n]``, what the encoder sees.
        selection: what may be predicted: the selection that was given, or a part of it if the
            corruptor leaves the rest alone.
        without_candidate: tokens of the selection that became random ones because a table had
            nothing to put in their place.
    """

    ids: IntArray
    selection: Selection
    without_candidate: int = 0


class Corruptor(Protocol):
    """Replaces the ids at selected positions; the length never changes.

    A corruptor draws nothing itself: it is given two random numbers for each position, so that it
    need not know which sequence of a batch a position is from.
    """

    mask_share: float
    """Expected share of the selected tokens that become the mask token, in [0, 1]."""

    def corrupt(
        self,
        ids: IntArray,
        selection: Selection,
        *,
        mask_id: int,
        token_range: tuple[int, int],
        uniform: npt.NDArray[np.float64],
    ) -> Corruption:
        """Replace the selected positions in a copy of ``ids`` (int32 ``[n]``).

        Args:
            ids: the true ids.
            selection: which positions, and which of them belong together.
            mask_id: id of the mask token.
            token_range: half-open range that random replacements are drawn from.
            uniform: float64 ``[m, 2]``, random numbers from [0, 1) for each position.
        """
        ...


Sharing = Literal["token", "unit", "group"]


class MixedCorruptor:
    """Mask token, random token or the token itself (BERT, arXiv 1810.04805, section 3.1).

    A random token may be the true one by chance, as in BERT.

    Args:
        mask: share that becomes the mask token.
        random: share that becomes a token drawn uniformly from the sample's own range.
        keep: share that stays as it is; the three add up to 1.
        per: what draws a fate of its own: each ``token`` (as in BERT, also with whole words), each
            ``unit``, so that a word is masked, random or kept as a whole, or each ``group`` of what
            was chosen together: an n-gram, span or block, all occurrences of a name.

    Raises:
        ConfigError: a share is negative, they do not add up to 1, or ``per`` is unknown.
    """

    def __init__(
        self,
        mask: float = 0.8,
        random: float = 0.1,
        keep: float = 0.1,
        per: Sharing = "token",
    ) -> None:
        check_shares("mixed corruptor", {"mask": mask, "random": random, "keep": keep})
        if per not in get_args(Sharing):
            raise ConfigError(f"mixed corruptor: per = {per!r}; it is 'token', 'unit' or 'group'.")
        self.mask_share = mask
        self._random_from, self._keep_from = mask, mask + random
        self._per = per

    def corrupt(
        self,
        ids: IntArray,
        selection: Selection,
        *,
        mask_id: int,
        token_range: tuple[int, int],
        uniform: npt.NDArray[np.float64],
    ) -> Corruption:
        """See :meth:`Corruptor.corrupt`.

        Raises:
            ConfigError: units draw, and the selection does not say them.
        """
        corrupted = ids.copy()
        positions = selection.positions
        if self.mask_share == 1:
            corrupted[positions] = mask_id
            return Corruption(corrupted, selection)
        fate = uniform[self._drawing(selection), 0]
        corrupted[positions[fate < self._random_from]] = mask_id
        is_random = (fate >= self._random_from) & (fate < self._keep_from)
        corrupted[positions[is_random]] = random_ids(uniform[is_random, 1], token_range)
        return Corruption(corrupted, selection)

    def _drawing(self, selection: Selection) -> slice | npt.NDArray[np.int64]:
        """For each position the one whose random number decides on it."""
        if self._per == "token":
            return slice(None)
        if self._per == "group":
            return first_of_equals(selection.groups)
        if selection.units is None:
            raise ConfigError("mixed corruptor: with per = 'unit' select through a masking policy.")
        return first_of_equals(selection.units)


def random_ids(uniform: npt.NDArray[np.float64], token_range: tuple[int, int]) -> IntArray:
    """Return int32 ids of a half-open range, one for each number from [0, 1)."""
    low, high = token_range
    # Rounded down before low is added: the sum of the two can round up to high.
    return low + (uniform * (high - low)).astype(np.int32)


def first_of_equals(values: IntArray) -> npt.NDArray[np.int64]:
    """Return for each value, int ``[m]``, the first place that holds the same one."""
    _, first, place = np.unique(values, return_index=True, return_inverse=True)
    return first[place]
