"""One uncorrupted sequence as token ids, with the units that may be masked as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqmlm.errors import ConfigError

IntArray = npt.NDArray[np.int32]

NOT_MASKABLE = -1


@dataclass(frozen=True, slots=True)
class Encoding:
    """Token ids of one sequence, special tokens included, nothing hidden and no padding.

    Args:
        ids: int32 ``[n]``.
        unit_ids: int32 ``[n]``; tokens of one unit (word, residue, identifier, entity) share a
            number, counted from 0 without gaps; -1 marks tokens that are never masked.
        segment_ids: int32 ``[n]``; which part of a pair a token belongs to; of a dialogue, 0 for
            the context and 1 for the response.
        position_ids: int32 ``[n]``; 0, 1, 2, ... where absent.
        offsets: int32 ``[n, 2]``; start and end of each token in the source text, (0, 0) for
            special tokens.
        unit_types: int32 ``[units]``; the domain's own classes of units.
        role_ids: int32 ``[n]``; who speaks in a dialogue, seen from the responder: 0.
        response_start: position of the first token of the response to all before it, from 1 to
            ``n``, at which it is still to be made; absent where nothing is a response.
        is_cut: whether this is a window of a longer record, so that its ends are not the record's.

    Raises:
        ConfigError: the lengths disagree, or the response begins outside.
    """

    ids: IntArray
    unit_ids: IntArray
    segment_ids: IntArray
    position_ids: IntArray | None = None
    offsets: IntArray | None = None
    unit_types: IntArray | None = None
    role_ids: IntArray | None = None
    response_start: int | None = None
    is_cut: bool = False

    def __post_init__(self) -> None:
        length = len(self.ids)
        for name in ("unit_ids", "segment_ids", "position_ids", "offsets", "role_ids"):
            values = getattr(self, name)
            if values is not None and len(values) != length:
                raise ConfigError(f"encoding: {name} has {len(values)} entries for {length} ids.")
        if self.unit_types is not None and len(self.unit_types) != self.num_units:
            raise ConfigError(
                f"encoding: unit_types has {len(self.unit_types)} entries for "
                f"{self.num_units} units."
            )
        if self.response_start is not None and not 1 <= self.response_start <= length:
            raise ConfigError(
                f"encoding: response_start is {self.response_start}; with {length} ids it is from "
                f"1 to {length}."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_units(self) -> int:
        """Number of units that may be masked."""
        return int(self.unit_ids.max(initial=NOT_MASKABLE)) + 1
