"""How often each name of a project follows, or precedes, which tokens; on disk, memory-mapped."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from seqmlm.errors import CheckpointError
from seqmlm_domains.code.completion.name_counts import (
    Counts,
    HashArray,
    Level,
    MemberCounts,
    TypeCounts,
)
from seqmlm_domains.code.completion.parsed_counts import NO_NAME, Parse, count_parsed
from seqmlm_domains.code.completion.project_modules import ProjectModules
from seqmlm_domains.code.languages.lexicon import Kind
from seqmlm_domains.code.roles import MEMBER_ROLES
from seqmlm_domains.code.source_tokens import SourceTokens
from seqmlm_domains.code.syntax import parse_text

LONGEST_CONTEXT: Final = 5
"""Tokens; the model is of order 6."""

Direction = Literal["left", "right"]
"""On which side of a name its context is."""

_LAST_CHARACTER: Final = "\U0010ffff"
_EDGE: Final = "<edge>"
_NAMES_FILE: Final = "names.json"
_ROLES_FILE: Final = "role-counts.npy"


@dataclass(frozen=True, eq=False)
class _SortedNames:
    """Names in alphabetical order, and the number of each."""

    names: list[str]
    numbers: npt.NDArray[np.int64]

    @classmethod
    def of(cls, names: Sequence[str]) -> _SortedNames:
        order = sorted(range(len(names)), key=names.__getitem__)
        return cls([names[number] for number in order], np.array(order, np.int64))

    def beginning_with(self, prefix: str) -> npt.NDArray[np.int64]:
        first = bisect_left(self.names, prefix)
        return self.numbers[first : bisect_left(self.names, prefix + _LAST_CHARACTER)]


@dataclass(frozen=True, eq=False)
class ContextTable:
    """Counts of the names of one language in contexts of at most :data:`LONGEST_CONTEXT` tokens.

    About 100 bytes on disk per occurrence of a name. Contexts are known by 64-bit hashes alone.

    Args:
        names: the different names, the most frequent first.
        counts: of each direction.
        role_counts: uint32 ``[names, len(Role)]``, how often each name does what.
        types: how often each name is declared with which type.
        members: which names are members of which classes.
    """

    names: tuple[str, ...]
    counts: dict[Direction, Counts]
    role_counts: npt.NDArray[np.uint32]
    types: TypeCounts
    members: MemberCounts

    @classmethod
    def of(
        cls,
        files: Sequence[SourceTokens],
        *,
        parse: Parse = parse_text,
        places: Mapping[SourceTokens, str] = MappingProxyType({}),
    ) -> ContextTable:
        """Count the names of files; about 1 MB of source a second.

        Args:
            files: of one language.
            parse: finds their identifiers, with roles and declared types.
            places: paths of the files inside the project, as far as they are in one: by these
                others import what they declare.
        """
        ids: dict[str, int] = {}
        words, targets = _join(files, ids)
        modules = ProjectModules(places)
        for _, word in modules.nesting:
            ids.setdefault(word, len(ids))
        occurrences = np.flatnonzero(targets != NO_NAME)
        frequency = np.bincount(targets[occurrences], minlength=len(ids))
        order = np.argsort(-frequency, kind="stable")
        rank = np.empty(len(ids), np.int32)
        rank[order] = np.arange(len(ids), dtype=np.int32)
        by_id = list(ids)
        names = tuple(by_id[number] for number in order.tolist())
        repeated = np.tile(rank[targets[occurrences]], LONGEST_CONTEXT + 1)
        return cls(
            names,
            {
                side: Counts.of(
                    np.concatenate(list(_hashes_around(words, occurrences, side))), repeated
                )
                for side in get_args(Direction)
            },
            *count_parsed(files, names, parse, modules),
        )

    @cached_property
    def number_of(self) -> dict[str, int]:
        """Number of each name."""
        return {name: number for number, name in enumerate(self.names)}

    @cached_property
    def is_identifier(self) -> npt.NDArray[np.bool_]:
        """Whether the parser took each name for one anywhere, bool ``[names]``.

        Not so words of the text between tags, and of regular expressions.
        """
        found: npt.NDArray[np.bool_] = self.role_counts.sum(1) > 0
        return found

    @cached_property
    def is_capitalised(self) -> npt.NDArray[np.bool_]:
        """Whether each name begins with a capital, bool ``[names]``."""
        return np.array([name[0].isupper() for name in self.names], np.bool_)

    @cached_property
    def member_counts(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """How often each name is looked up in an object, and how often it has any role.

        float64 ``[names]`` each.
        """
        counts = self.role_counts
        return counts[:, MEMBER_ROLES].sum(1, dtype=np.float64), counts.sum(1, dtype=np.float64)

    @cached_property
    def _alphabetical(self) -> _SortedNames:
        return _SortedNames.of(self.names)

    @cached_property
    def _alphabetical_in_lower_case(self) -> _SortedNames:
        return _SortedNames.of([name.lower() for name in self.names])

    def beginning_with(self, prefix: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the names that begin so, letter case as it is, int64 ``[n]``."""
        return self._alphabetical.beginning_with(prefix)

    def beginning_in_any_case(self, prefix: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the names that begin so in any letter case, int64 ``[n]``."""
        return self._alphabetical_in_lower_case.beginning_with(prefix.lower())

    def levels(self, context: Sequence[str], side: Direction) -> list[Level]:
        """Return what was seen in a context, for every length from 0 up at which it was seen.

        Args:
            context: tokens from the nearest on; the file's edge is :data:`_EDGE`'s place, which is
                taken where there are fewer than :data:`LONGEST_CONTEXT`.
            side: of the name on which they stand.
        """
        tokens = [*context, *[_EDGE] * LONGEST_CONTEXT][:LONGEST_CONTEXT]
        levels = []
        hashed = _START
        for length in range(LONGEST_CONTEXT + 1):
            found = self.counts[side].level(hashed[0])
            if found is None:
                break  # a longer context cannot have been seen either
            levels.append(found)
            if length < LONGEST_CONTEXT:
                hashed = _extended(hashed, np.array([_hash(tokens[length])], np.uint64))
        return levels

    def save(self, folder: Path) -> None:
        """Write the table into a folder that exists."""
        content = json.dumps(self.names, ensure_ascii=False)
        (folder / _NAMES_FILE).write_text(content, encoding="utf-8")
        np.save(folder / _ROLES_FILE, self.role_counts)
        for side, counts in self.counts.items():
            counts.save(folder, side)
        self.types.save(folder)
        self.members.save(folder)

    @classmethod
    def load(cls, folder: Path) -> ContextTable:
        """Map what :meth:`save` wrote into memory.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        try:
            names = json.loads((folder / _NAMES_FILE).read_text(encoding="utf-8"))
            counts = {side: Counts.load(folder, side) for side in get_args(Direction)}
            types, members = TypeCounts.load(folder), MemberCounts.load(folder)
            role_counts = np.load(folder / _ROLES_FILE, mmap_mode="r")
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{folder}: the counts of names cannot be read: {error}. Run `seqmlm code fit` "
                "again."
            ) from error
        return cls(tuple(names), counts, role_counts, types, members)


def _join(
    files: Iterable[SourceTokens], ids: dict[str, int]
) -> tuple[HashArray, npt.NDArray[np.int32]]:
    """Hashes of the tokens of all files with edges between them, and the names among them."""
    edge = np.full(LONGEST_CONTEXT, _hash(_EDGE), np.uint64)
    hashes, targets = [edge], [np.full(LONGEST_CONTEXT, NO_NAME, np.int32)]
    for tokens in files:
        code = tokens.code(0, len(tokens.numbers))
        of_word = np.array([_hash(word) for word in tokens.words], np.uint64)
        names = np.array(
            [
                ids.setdefault(word, len(ids)) if kind == Kind.NAME else NO_NAME
                for word, kind in zip(tokens.words, tokens.word_kinds.tolist(), strict=True)
            ],
            np.int32,
        )
        hashes += [of_word[code], edge]
        targets += [names[code], targets[0]]
    return np.concatenate(hashes), np.concatenate(targets)


def _hashes_around(
    words: HashArray, places: npt.NDArray[np.int64], side: Direction
) -> Iterator[HashArray]:
    """Hashes of the contexts of some places, for each length from 0 on."""
    hashed = np.repeat(_START, len(places))
    yield hashed
    step = -1 if side == "left" else 1
    for distance in range(1, LONGEST_CONTEXT + 1):
        hashed = _extended(hashed, words[places + step * distance])
        yield hashed


_START: Final = np.zeros(1, np.uint64)


def _extended(hashed: HashArray, words: HashArray) -> HashArray:
    """Hash of a context with one more token; the finaliser of SplitMix64."""
    mixed = hashed * np.uint64(0x9E3779B97F4A7C15) + words
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _hash(word: str) -> int:
    digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
