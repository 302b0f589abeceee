"""In which class or module a member is looked up: what stands before its dot, by its type.

Of the method's own object that is the class around; of any other the type that
:mod:`~seqmlm_domains.code.expressions` tells.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import tree_sitter

from seqmlm_domains.code.declared_types import DeclaredTypes
from seqmlm_domains.code.expressions import ExpressionTypes, Occurrence
from seqmlm_domains.code.generic_types import simple
from seqmlm_domains.code.imports import Span
from seqmlm_domains.code.languages.language import Language, TypeRules
from seqmlm_domains.code.member_paths import ITSELF, RESULT_OF
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.scopes import Scopes
from seqmlm_domains.code.type_names import ARRAY

_BASES: Final = frozenset({Role.READ, Role.TYPE, Role.ATTRIBUTE})


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """What identifiers belong to.

    Args:
        members: the class or module that declares each identifier, or in which it is looked up.
        heirs: the class in whose head each stands as a base.
        types: ``Class.member`` -> its type, where the text tells that; of a method, with brackets
            behind its name if a field may have the same one, the type of its result. So are those
            of functions that are no members, ``name()``.
        is_exported: bool ``[identifiers]``, whether others may import it from the text although
            the text does not declare it.
        passed_on: owner and owner: all names of the second, a module, are of the first too.
    """

    members: DeclaredTypes
    heirs: DeclaredTypes
    types: Mapping[str, str]
    is_exported: npt.NDArray[np.bool_]
    passed_on: Sequence[tuple[str, str]]

    def where(self, chosen: npt.NDArray[np.bool_]) -> Owners:
        """Return what some of the identifiers belong to."""
        return Owners(
            self.members.where(chosen),
            self.heirs.where(chosen),
            self.types,
            self.is_exported[chosen],
            self.passed_on,
        )


def find_owners(
    occurrences: Sequence[Occurrence],
    types: Sequence[bytes | None],
    tree: tree_sitter.Tree,
    source: bytes,
    language: Language,
    scopes: Scopes,
    *,
    asked: int | None = None,
) -> Owners:
    """Return the owners of the identifiers of a text.

    Args:
        occurrences: in order.
        types: declared type of each, or that of its result.
        tree: of the source.
        source: text of the file in UTF-8.
        language: gives the rules.
        scopes: with every node visited.
        asked: number of an identifier; if it has no owner, no one's members are told.
    """
    heirs = _within(occurrences, scopes.heads)
    bases: dict[bytes, list[bytes]] = {}
    for (start, end, *_), heir in zip(occurrences, heirs, strict=True):
        if heir is not None:
            bases.setdefault(heir, []).append(source[start:end])
    expressions = ExpressionTypes(occurrences, types, bases, tree, source, language, scopes)
    starts = (occurrence[0] for occurrence in occurrences)
    is_exported = np.array([start in scopes.imports.exported for start in starts], np.bool_)
    if asked is not None and expressions.owner_of(asked) is None:
        nothing = DeclaredTypes.of([None] * len(occurrences))
        return Owners(nothing, DeclaredTypes.of(heirs), {}, is_exported, ())
    owners = (expressions.owner_of(number) for number in range(len(occurrences)))
    members = [None if owner is None else class_of(owner, language.types) for owner in owners]
    return Owners(
        DeclaredTypes.of(members),
        DeclaredTypes.of(heirs),
        _types_of_members(expressions, scopes),
        is_exported,
        [(heir.decode(), module.decode()) for heir, module in scopes.imports.passed_on],
    )


def _types_of_members(expressions: ExpressionTypes, scopes: Scopes) -> dict[str, str]:
    found = {(name + RESULT_OF).decode(): type_ for name, type_ in scopes.functions.items()}
    for owner, name, declared, assigned in scopes.members():
        type_ = declared or expressions.of_value(assigned)
        is_named = b" " not in owner  # unlike a module of TypeScript that is named by a string
        if is_named and type_ is not None and not type_.startswith(ITSELF):
            found[(owner + b"." + name).decode()] = type_
    return {path: type_.decode() for path, type_ in found.items()}


def class_of(type_: bytes, rules: TypeRules) -> bytes:
    """Return the name of the class that declares the members of a type."""
    name = simple(type_)
    return rules.array_class if name.endswith(ARRAY) else name


def _within(occurrences: Sequence[Occurrence], heads: Sequence[Span]) -> list[bytes | None]:
    """Of each identifier the class of whose head it is a part, as a base."""
    found: list[bytes | None] = [None] * len(occurrences)
    starts = [occurrence[0] for occurrence in occurrences]
    for head in heads:
        place = bisect_left(starts, head.start)
        while place < len(starts) and starts[place] < head.end:
            if occurrences[place][2] in _BASES:
                found[place] = head.owner
            place += 1
    return found
