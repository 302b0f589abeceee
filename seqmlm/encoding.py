"""One uncorrupted sequence as token ids, with the units that may be masked as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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
        declared_types: int32 ``[units]``; what the data declare each unit to be, as a variable is
            declared a string; numbers of :attr:`Domain.declared_types`, 0 where they say nothing.
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
    declared_types: IntArray | None = None
    role_ids: IntArray | None = None
    response_start: int | None = None
    is_cut: bool = False

    def __post_init__(self) -> None:
        length = len(self.ids)
        for name in ("unit_ids", "segment_ids", "position_ids", "offsets", "role_ids"):
            values = getattr(self, name)
            if values is not None and len(values) != length:
                raise ConfigError(f"encoding: {name} has {len(values)} entries for {length} ids.")
        for name in ("unit_types", "declared_types"):
            values = getattr(self, name)
            if values is not None and len(values) != self.num_units:
                raise ConfigError(
                    f"encoding: {name} has {len(values)} entries for {self.num_units} units."
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


@dataclass(frozen=True)
class EncodingBatch:
    """Several encodings one after the other, without padding.

    Args:
        encodings: any number.
    """

    encodings: Sequence[Encoding]

    def __len__(self) -> int:
        return len(self.encodings)

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each encoding, int64 ``[encodings]``."""
        return np.fromiter(map(len, self.encodings), np.int64, len(self))

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each encoding begins, int64 ``[encodings]``."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def ids(self) -> IntArray:
        """Token ids, int32 ``[tokens]``."""
        return _joined([encoding.ids for encoding in self.encodings])

    @cached_property
    def segment_ids(self) -> IntArray:
        """Which part of its sequence a token belongs to, int32 ``[tokens]``."""
        return _joined([encoding.segment_ids for encoding in self.encodings])

    @cached_property
    def position_ids(self) -> IntArray:
        """Positions within each sequence, int32 ``[tokens]``."""
        counted = np.arange(len(self.ids), dtype=np.int32)
        counted -= np.repeat(self.starts.astype(np.int32), self.lengths)
        if all(encoding.position_ids is None for encoding in self.encodings):
            return counted
        parts = zip(np.split(counted, self.starts[1:]), self.encodings, strict=True)
        return _joined([own if (given := e.position_ids) is None else given for own, e in parts])

    @cached_property
    def role_ids(self) -> IntArray | None:
        """Who speaks, int32 ``[tokens]``, 0 in a sequence without roles; absent without any."""
        if all(encoding.role_ids is None for encoding in self.encodings):
            return None
        return _joined(
            [np.zeros_like(e.ids) if e.role_ids is None else e.role_ids for e in self.encodings]
        )

    @cached_property
    def unit_types(self) -> IntArray | None:
        """The domain's classes of the units, int32 ``[units]``; absent if a sequence has none."""
        types = [e.unit_types for e in self.encodings if e.unit_types is not None]
        return _joined(types) if len(types) == len(self) else None

    @cached_property
    def declared_types(self) -> IntArray | None:
        """What the data declare units to be, int32 ``[units]``; absent if a sequence has none."""
        types = [e.declared_types for e in self.encodings if e.declared_types is not None]
        return _joined(types) if len(types) == len(self) else None

    @cached_property
    def unit_ids(self) -> IntArray:
        """Units, int32 ``[tokens]``, counted through the batch; -1 where never masked."""
        own = self._own_unit_ids
        before = np.cumsum(self.num_units) - self.num_units
        counted = own + np.repeat(before.astype(np.int32), self.lengths)
        counted[own == NOT_MASKABLE] = NOT_MASKABLE
        return counted

    @cached_property
    def num_units(self) -> npt.NDArray[np.int64]:
        """Units of each encoding that may be masked, int64 ``[encodings]``."""
        if not len(self):
            return np.zeros(0, np.int64)
        # An empty sequence would take over the first value of the next one.
        largest = np.maximum.reduceat(np.append(self._own_unit_ids, NOT_MASKABLE), self.starts)
        return np.where(self.lengths > 0, largest + 1, 0)

    @cached_property
    def unit_sizes(self) -> npt.NDArray[np.int64]:
        """Tokens of each unit, int64 ``[units]``."""
        return np.bincount(self.unit_ids + 1, minlength=1)[1:]  # of all units but -1

    @cached_property
    def encoding_of_token(self) -> npt.NDArray[np.int64]:
        """Number of the encoding that a token is from, int64 ``[tokens]``."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @cached_property
    def encoding_of_unit(self) -> npt.NDArray[np.int64]:
        """Number of the encoding that a unit is from, int64 ``[units]``."""
        return np.repeat(np.arange(len(self)), self.num_units)

    def count(self, positions: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """Return how many of some positions in the batch each encoding has."""
        return np.bincount(self.encoding_of_token[positions], minlength=len(self))

    @cached_property
    def _own_unit_ids(self) -> IntArray:
        return _joined([encoding.unit_ids for encoding in self.encodings])


def _joined(parts: Sequence[IntArray]) -> IntArray:
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)
