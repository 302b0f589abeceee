"""How well each name fits behind a dot, or elsewhere, by where it stands in text and project.

Which class an object is of, :mod:`~seqmlm_domains.code.owners` tells as far as one file does: here
the project's classes are known too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm_domains.code.completion import cursor_syntax
from seqmlm_domains.code.completion.class_definitions import find_class
from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.completion.cursor_syntax import CursorSyntax, receiver_at
from seqmlm_domains.code.completion.name_counts import Level
from seqmlm_domains.code.completion.names import KnownNames
from seqmlm_domains.code.completion.open_types import OpenTypes
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.member_paths import class_meant, is_open
from seqmlm_domains.code.roles import MEMBER_ROLES
from seqmlm_domains.code.scopes import SUPER

FloatArray = npt.NDArray[np.float64]

_WEIGHT: Final = 0.2
"""Of what is believed without looking, in occurrences."""

_NO_LEVEL: Final[Level] = (np.zeros(0, np.int32), np.zeros(0))
_MOST_OWNERS: Final = 32
"""Classes that are looked at for one cursor."""


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


@dataclass(frozen=True, eq=False)
class KnownMembers:
    """Names that are declared by the class that the cursor's name is looked up in, or seen there.

    Args:
        counts: float64 ``[names]``, how often each was, in its bases too.
        of_class: bool ``[names]``, whether that is a class of this text or of the project.
        is_own: whether the class is that of the method's own object.
    """

    counts: FloatArray
    of_class: npt.NDArray[np.bool_]
    is_own: bool

    @classmethod
    def at(cls, cursor: Cursor, names: KnownNames, syntax: CursorSyntax) -> KnownMembers:
        """Count them in the text and in the project."""
        counts, of_class = np.zeros(len(names)), np.zeros(len(names), np.bool_)
        meant = [syntax.owner, syntax.open_owner]
        owners = list(dict.fromkeys(each for owner in meant if owner for each in _meanings(owner)))
        for owner in owners:  # grows
            found = _Members.of(owner, cursor, names, syntax)
            np.add.at(counts, found.of_text, 1)
            counts[found.of_project[0]] += found.of_project[1]
            if _is_class(owner):
                of_class[found.of_text] = of_class[found.of_project[0]] = True
            owners += [base for base in dict.fromkeys(found.bases) if base not in owners]
            if len(owners) >= _MOST_OWNERS:
                break
        return cls(counts, of_class, _is_own_object(cursor))

    @property
    def level(self) -> Level:
        """The names that were seen, and how often."""
        found = np.flatnonzero(self.counts)
        return found.astype(np.int32), self.counts[found]


@dataclass(frozen=True, eq=False)
class _Members:
    """What is known of one owner: numbers of its members, and what it inherits from."""

    of_text: npt.NDArray[np.int32]
    of_project: Level
    bases: list[str]

    @classmethod
    def of(cls, owner: str, cursor: Cursor, names: KnownNames, syntax: CursorSyntax) -> _Members:
        """Look it up around the cursor, in the text, and in the project."""
        table = names.table.members
        of_project = table.of_owner(owner) or _NO_LEVEL
        numbers = names.of_words[syntax.words]
        around = numbers[syntax.owners.members.where_any({owner})]
        if not _is_class(owner):
            return cls(around, of_project, list(table.bases.get(owner, ())))
        defined = find_class(cursor, owner, timeout_s=cursor_syntax.PARSE_TIMEOUT_S)
        inherits = np.unique(numbers[syntax.owners.heirs.where_any({owner})])
        return cls(
            np.append(around, np.array(_numbers(defined.members, names), np.int32)),
            of_project,
            [*table.bases.get(owner, ()), *defined.bases, *(names[n] for n in inherits.tolist())],
        )


def class_at(cursor: Cursor, names: KnownNames, syntax: CursorSyntax) -> str | None:
    """Return the class that the cursor's name is looked up in, by all that is known of classes.

    The owner as the text around the cursor tells it, if no more is known. What is not around it is
    asked for classes that the project does not know.
    """
    if syntax.open_owner is None:
        return None
    table = names.table.members

    def defined(member: str) -> str | None:
        owner = member.rpartition(".")[0]
        if not owner or owner in table.number_of:
            return None
        found = find_class(cursor, owner, timeout_s=cursor_syntax.PARSE_TIMEOUT_S)
        return found.types.get(member)

    told: list[Callable[[str], str | None]] = [syntax.owners.types.get, table.types.get, defined]
    return OpenTypes(cursor.tokens.language, told, table.bases).class_of(syntax.open_owner)


def _is_own_object(cursor: Cursor) -> bool:
    receiver = receiver_at(cursor)
    if receiver is None:
        return False
    own = LANGUAGES[cursor.tokens.language].types.own_object
    return cursor.tokens.words[receiver] in (own, SUPER.decode())


def _numbers(chosen: Iterable[str], names: KnownNames) -> list[int]:
    """The numbers of some names of the text."""
    own = {name: len(names.table.names) + number for number, name in enumerate(names.own)}
    found = (names.table.number_of.get(name, own.get(name)) for name in chosen)
    return [number for number in found if number is not None]


def _meanings(owner: str) -> tuple[str, str]:
    """An owner, and the class that it is or makes an object of, if its name is that of one."""
    return owner, owner if "." in owner else class_meant(owner.encode()).decode()


def _is_class(owner: str) -> bool:
    return not is_open(owner.encode())
