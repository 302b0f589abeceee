"""What the parser tells of the names of a project: their roles, types and owners, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm_domains.code.completion.name_counts import MemberCounts, TypeCounts
from seqmlm_domains.code.completion.open_types import OpenTypes
from seqmlm_domains.code.completion.project_modules import ProjectModules
from seqmlm_domains.code.declared_types import NO_TYPE, DeclaredTypes
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.source_tokens import SourceTokens
from seqmlm_domains.code.syntax import ParsedText

Parse = Callable[[str, str], ParsedText]
"""Finds the identifiers of a text of a language; see :func:`parse_text`."""

NO_NAME: Final = -1


def count_parsed(
    files: Sequence[SourceTokens], names: Sequence[str], parse: Parse, modules: ProjectModules
) -> tuple[npt.NDArray[np.uint32], TypeCounts, MemberCounts]:
    """Return how often each name has each role, each declared type, and each owner.

    Args:
        files: of one language.
        names: of the project, by number.
        parse: finds their identifiers, with roles, declared types and owners.
        modules: that the files are.
    """
    number_of = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(names), len(Role)), np.uint32)
    typed, owned, heirs = _Pairs(), _Pairs(), _Pairs()
    types: dict[str, Counter[str]] = {}
    bases: dict[str, dict[str, None]] = {}
    for tokens in files:
        parsed = parse(tokens.text, tokens.language)
        found = parsed.identifiers
        if not len(found):
            continue
        of_words = np.array([number_of.get(word, NO_NAME) for word in tokens.words], np.int32)
        numbers = of_words[tokens.numbers[tokens.ends.searchsorted(found[:, 0], "right")]]
        is_name = numbers != NO_NAME  # else the lexer takes it for a keyword or literal
        np.add.at(counts, (numbers[is_name], found[is_name, 2]), 1)
        typed.add(numbers, parsed.declared_types)
        if parsed.owners is not None:
            heirs.add(numbers, parsed.owners.heirs)
            for member, type_ in parsed.owners.types.items():
                types.setdefault(member, Counter())[type_] += 1
        for members in modules.members(parsed, tokens):
            owned.add(numbers, members)
        for heir, module in modules.passed_on(parsed, tokens):
            bases.setdefault(heir, {})[module] = None
    for owner, word in modules.nesting:
        counts[number_of[word], Role.IMPORT] += 1  # as if it were imported somewhere
        owned.add(np.array([number_of[word]]), DeclaredTypes.of([owner.encode()]))
    for base, heir in np.unique(heirs.pairs, axis=0).tolist():
        bases.setdefault(heirs.names[heir], {})[names[base]] = None
    bases_of = {heir: list(own) for heir, own in bases.items()}
    type_of = {member: found.most_common(1)[0][0] for member, found in types.items()}
    if files:
        owned = owned.renamed(OpenTypes(files[0].language, [type_of.get], bases_of).class_of)
    return (
        counts,
        TypeCounts.of(typed.names, typed.pairs),
        MemberCounts.of(owned.names, owned.pairs[:, ::-1], bases_of, type_of, modules.owners),
    )


class _Pairs:
    """Numbers of names, and of what was seen of them, from several files."""

    def __init__(self) -> None:
        self._number_of: dict[str, int] = {}
        self._pairs: list[npt.NDArray[np.int32]] = [np.zeros((0, 2), np.int32)]

    def add(self, numbers: npt.NDArray[np.int32], seen: DeclaredTypes) -> None:
        """Note what was seen of the identifiers of a file that are names."""
        own = [self._number_of.setdefault(name, len(self._number_of)) for name in seen.names]
        is_seen = (numbers != NO_NAME) & (seen.numbers != NO_TYPE)
        of_own = np.array(own, np.int32)[seen.numbers[is_seen]]
        self._pairs.append(np.stack([numbers[is_seen], of_own], axis=1))

    def renamed(self, name_of: Callable[[str], str | None]) -> _Pairs:
        """Return the pairs with other names of what was seen; those without one are left out."""
        numbers, pairs = self.pairs.T, _Pairs()
        seen = DeclaredTypes(numbers[1], self.names)
        pairs.add(numbers[0], seen.renamed(name_of))
        return pairs

    @property
    def names(self) -> tuple[str, ...]:
        """Of what was seen, by number."""
        return tuple(self._number_of)

    @property
    def pairs(self) -> npt.NDArray[np.int32]:
        """Name and what was seen of it, int32 ``[seen, 2]``."""
        return np.concatenate(self._pairs)
