"""What a stored token holds: an id, the role of the identifier it is part of, and where one begins.

Roles are stored because a window of tokens can no longer be parsed as the file was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.syntax import IdentifierArray
from seqmlm_domains.code.tokenizer import BoolArray, Tokens

ID_BITS: Final = 24
_ROLE_BITS: Final = 5
_BEGINS: Final = np.uint32(1 << 31)
_IDS: Final = np.uint32((1 << ID_BITS) - 1)
_ROLES: Final = np.uint32((1 << _ROLE_BITS) - 1)

StoredArray = npt.NDArray[np.unsignedinteger[Any]]


def store(
    ids: npt.NDArray[np.uint32], roles: npt.NDArray[np.int32], begins: BoolArray
) -> npt.NDArray[np.uint32]:
    """Put ids, roles and beginnings of identifiers together, each ``[n]``."""
    shifted = np.left_shift(roles.astype(np.uint32), np.uint32(ID_BITS))
    stored: npt.NDArray[np.uint32] = ids | shifted | np.where(begins, _BEGINS, np.uint32(0))
    return stored


def ids_of(tokens: StoredArray) -> StoredArray:
    """Return the ids, ``[n]``, of the same type."""
    return tokens & _IDS


def roles_of(tokens: StoredArray) -> npt.NDArray[np.int32]:
    """Return the roles, int32 ``[n]``; :attr:`Role.OTHER` where there is no identifier."""
    return ((tokens >> np.uint32(ID_BITS)) & _ROLES).astype(np.int32)


def begin_identifiers(tokens: StoredArray) -> BoolArray:
    """Say which tokens are the first of an identifier, bool ``[n]``."""
    begins: BoolArray = (tokens & _BEGINS) != 0
    return begins


def align(
    tokens: Tokens, identifiers: Sequence[IdentifierArray]
) -> tuple[npt.NDArray[np.int32], BoolArray]:
    """Find the tokens that lie inside identifiers.

    Args:
        tokens: of several texts.
        identifiers: of each text.

    Returns:
        The role of each token, int32, and whether it begins an identifier, bool.
    """
    roles = np.full(len(tokens.ids), Role.OTHER, np.int32)
    begins = np.zeros(len(tokens.ids), np.bool_)
    end = 0
    for length, own in zip(tokens.lengths.tolist(), identifiers, strict=True):
        start, end = end, end + length
        if not len(own):
            continue
        offsets = tokens.offsets[start:end]
        owner = own[:, 0].searchsorted(offsets[:, 0], side="right") - 1
        inside = (owner >= 0) & (offsets[:, 1] <= own[owner, 1])
        roles[start:end][inside] = own[owner[inside], 2]
        begins[start:end] = inside & (np.diff(owner, prepend=-1) != 0)
    return roles, begins
