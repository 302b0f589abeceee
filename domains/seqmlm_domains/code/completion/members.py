"""How well each name fits behind a dot, or elsewhere, by where it stands in text and project."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm_domains.code.completion.cursor_syntax import CursorSyntax
from seqmlm_domains.code.completion.names import KnownNames
from seqmlm_domains.code.roles import MEMBER_ROLES

FloatArray = npt.NDArray[np.float64]

_WEIGHT: Final = 0.2
"""Of what is believed without looking, in occurrences."""


def member_share(names: KnownNames, syntax: CursorSyntax) -> FloatArray:
    """Return the smoothed share of each name's occurrences as a member, float64 ``[names]``.

    Those around the cursor are counted on top of the share in the project. There, declarations in
    the body of a class count too.
    """
    is_member = np.isin(syntax.roles, MEMBER_ROLES) | syntax.declares_member
    return _with_those_in_text(_in_project(names), is_member, names, syntax)


def plain_share(names: KnownNames, syntax: CursorSyntax) -> FloatArray:
    """Return the smoothed share of each name's occurrences without an object, ``[names]``.

    Where members need none, as in Java, they are counted as both; see :func:`member_share`.
    """
    is_plain = ~np.isin(syntax.roles, MEMBER_ROLES)
    if not syntax.members_are_in_scope:
        is_plain &= ~syntax.declares_member
    return _with_those_in_text(1 - _in_project(names), is_plain, names, syntax)


def _in_project(names: KnownNames) -> FloatArray:
    members, all_of_them = names.table.member_counts
    of_any = (members.sum() + 1) / (all_of_them.sum() + 2)
    shares = (members + _WEIGHT * of_any) / (all_of_them + _WEIGHT)
    return np.concatenate([shares, np.full(len(names.own), of_any)])


def _with_those_in_text(
    believed: FloatArray, does: npt.NDArray[np.bool_], names: KnownNames, syntax: CursorSyntax
) -> FloatArray:
    numbers = names.of_words[syntax.words]
    seen = np.bincount(numbers, minlength=len(names))
    counts = np.bincount(numbers[does], minlength=len(names))
    shares: FloatArray = (counts + _WEIGHT * believed) / (seen + _WEIGHT)
    return shares
