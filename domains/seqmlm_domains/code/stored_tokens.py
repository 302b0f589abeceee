"""What a stored token holds: an id, and what the parser says of the identifier it is part of.

From the lowest bit: the id (24 bits), the role (5), 2 that are free, whether an identifier begins,
and its declared type (32). They are stored because a window of tokens can no longer be parsed as
the file was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.syntax import IdentifierArray
from seqmlm_domains.code.tokenizer import BoolArray, Tokens

ID_BITS: Final = 24
_ROLE_BITS: Final = 5
_BEGINS_BIT: Final = 31
_TYPE_BIT: Final = 32
_IDS: Final = np.uint64((1 << ID_BITS) - 1)
_ROLES: Final = np.uint64((1 << _ROLE_BITS) - 1)

StoredArray = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """What is known of each token of some texts.

    Args:
        roles: int32 ``[n]``, of the identifier that it is part of, else :attr:`Role.OTHER`.
        types: int32 ``[n]``, the number of its declared type; 0 where there is none.
        begins: bool ``[n]``, whether it is the first token of an identifier.
    """

    roles: npt.NDArray[np.int32]
    types: npt.NDArray[np.int32]
    begins: BoolArray


def store(ids: npt.NDArray[np.uint32], marks: Marks) -> npt.NDArray[np.uint64]:
    """Put ids and marks together, uint64 ``[n]``."""
    stored = ids.astype(np.uint64)
    stored |= marks.roles.astype(np.uint64) << np.uint64(ID_BITS)
    stored |= marks.begins.astype(np.uint64) << np.uint64(_BEGINS_BIT)
    stored |= marks.types.astype(np.uint64) << np.uint64(_TYPE_BIT)
    return stored


def ids_of(tokens: StoredArray) -> npt.NDArray[np.uint32]:
    """Return the ids, uint32 ``[n]``."""
    return (tokens & _IDS).astype(np.uint32)


def roles_of(tokens: StoredArray) -> npt.NDArray[np.int32]:
    """Return the roles, int32 ``[n]``; :attr:`Role.OTHER` where there is no identifier."""
    return ((tokens >> np.uint64(ID_BITS)) & _ROLES).astype(np.int32)


def types_of(tokens: StoredArray) -> npt.NDArray[np.int32]:
    """Return the numbers of declared types, int32 ``[n]``; 0 where there is none."""
    return (tokens >> np.uint64(_TYPE_BIT)).astype(np.int32)


def begin_identifiers(tokens: StoredArray) -> BoolArray:
    """Say which tokens are the first of an identifier, bool ``[n]``."""
    begins: BoolArray = ((tokens >> np.uint64(_BEGINS_BIT)) & np.uint64(1)) != 0
    return begins


def align(
    tokens: Tokens,
    identifiers: Sequence[IdentifierArray],
    types: Sequence[npt.NDArray[np.int32]],
) -> Marks:
    """Find the tokens that lie inside identifiers.

    Args:
        tokens: of several texts.
        identifiers: of each text.
        types: int32, the number of the declared type of each identifier of each text.
    """
    count = len(tokens.ids)
    marks = Marks(
        np.full(count, Role.OTHER, np.int32), np.zeros(count, np.int32), np.zeros(count, np.bool_)
    )
    end = 0
    texts = zip(tokens.lengths.tolist(), identifiers, types, strict=True)
    for length, own, own_types in texts:
        start, end = end, end + length
        if not len(own):
            continue
        offsets = tokens.offsets[start:end]
        owner = own[:, 0].searchsorted(offsets[:, 0], side="right") - 1
        inside = (owner >= 0) & (offsets[:, 1] <= own[owner, 1])
        marks.roles[start:end][inside] = own[owner[inside], 2]
        marks.types[start:end][inside] = own_types[owner[inside]]
        marks.begins[start:end] = inside & (np.diff(owner, prepend=-1) != 0)
    return marks
