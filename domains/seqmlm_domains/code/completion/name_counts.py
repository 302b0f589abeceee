"""How often which names were seen in a context, and with which declared type; memory-mapped."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

Level = tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]
"""Numbers of the names seen in a context, and how often each."""

HashArray = npt.NDArray[np.uint64]

_NO_ENTRY: Final = -1
_ARRAYS: Final = ("contexts", "firsts", "names", "counts")
_TYPES_FILE: Final = "types.json"
_TYPES: Final = "types"
_MEMBERS_FILE: Final = "members.json"
_MEMBERS: Final = "members"
"""These begin the names of the files of their counts, as a direction those of its contexts."""

_logger = logging.getLogger("seqmlm")


@dataclass(frozen=True, eq=False)
class Counts:
    """What was seen in each context of one direction, of all lengths together.

    Args:
        contexts: uint64 ``[contexts]``, hashes, ascending.
        firsts: uint32 ``[contexts + 1]``, where the entries of each begin.
        names: int32 ``[entries]``.
        counts: uint32 ``[entries]``.
    """

    contexts: HashArray
    firsts: npt.NDArray[np.uint32]
    names: npt.NDArray[np.int32]
    counts: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, hashes: HashArray, names: npt.NDArray[np.int32]) -> Counts:
        """Count pairs of context and name, each ``[occurrences]``."""
        order = np.lexsort((names, hashes))
        hashes, names = hashes[order], names[order]
        is_new_context = np.diff(hashes, prepend=hashes[:1] + np.uint64(1)) != 0
        is_new = is_new_context | (np.diff(names, prepend=_NO_ENTRY) != 0)
        entries = np.flatnonzero(is_new)
        return cls(
            hashes[is_new_context],
            np.append(np.flatnonzero(is_new_context[entries]), len(entries)).astype(np.uint32),
            names[entries],
            np.diff(entries, append=len(names)).astype(np.uint32),
        )

    def save(self, folder: Path, kind: str) -> None:
        """Write the counts into a folder that exists, in files whose names begin with ``kind``."""
        for array in _ARRAYS:
            np.save(folder / f"{kind}-{array}.npy", getattr(self, array))

    @classmethod
    def load(cls, folder: Path, kind: str) -> Counts:
        """Map what :meth:`save` wrote into memory.

        Raises:
            OSError, ValueError: a file is missing or damaged.
        """
        paths = (folder / f"{kind}-{array}.npy" for array in _ARRAYS)
        return cls(*(np.load(path, mmap_mode="r") for path in paths))

    def level(self, context: np.uint64) -> Level | None:
        """Return what was seen in a context; None if nothing was."""
        place = int(self.contexts.searchsorted(context))
        if place == len(self.contexts) or self.contexts[place] != context:
            return None
        start, end = int(self.firsts[place]), int(self.firsts[place + 1])
        return np.asarray(self.names[start:end]), self.counts[start:end].astype(np.float64)


@dataclass(frozen=True, eq=False)
class TypeCounts:
    """How often names are declared with which type.

    Args:
        names: of the types.
        entries: types in place of names, by the number of a name in place of a context.
    """

    names: tuple[str, ...]
    entries: Counts

    @classmethod
    def of(cls, names: Sequence[str], pairs: npt.NDArray[np.int32]) -> TypeCounts:
        """Count pairs of the numbers of a name and of a type, int32 ``[declared, 2]``."""
        return cls(tuple(names), Counts.of(pairs[:, 0].astype(np.uint64), pairs[:, 1]))

    def save(self, folder: Path) -> None:
        """Write the counts into a folder that exists."""
        content = json.dumps(self.names, ensure_ascii=False)
        (folder / _TYPES_FILE).write_text(content, encoding="utf-8")
        self.entries.save(folder, _TYPES)

    @classmethod
    def load(cls, folder: Path) -> TypeCounts:
        """Map what :meth:`save` wrote into memory; without it no type is known.

        Raises:
            OSError, ValueError: a file is missing or damaged.
        """
        path = folder / _TYPES_FILE
        if not path.is_file():
            _logger.warning(
                "%s was counted before declared types were: only the open file tells of those. "
                "Run `seqmlm code fit` again.",
                folder,
            )
            return NO_TYPE_COUNTS
        return cls(tuple(json.loads(path.read_text("utf-8"))), Counts.load(folder, _TYPES))

    @cached_property
    def number_of(self) -> dict[str, int]:
        """Number of each type."""
        return {name: number for number, name in enumerate(self.names)}

    def of_name(self, number: int) -> dict[str, int]:
        """Return how often a name has each of its types."""
        found = self.entries.level(np.uint64(number))
        if found is None:
            return {}
        types, counts = found
        return {
            self.names[type]: int(count) for type, count in zip(types.tolist(), counts, strict=True)
        }

    def names_with(self, types: Collection[str]) -> npt.NDArray[np.int64]:
        """Return the numbers of the names that have one of some types, ``[n]``."""
        chosen = [self.number_of[name] for name in types if name in self.number_of]
        places = np.flatnonzero(np.isin(self.entries.names, chosen))
        owners = self.entries.firsts.searchsorted(places, "right") - 1
        return self.entries.contexts[owners].astype(np.int64)


NO_TYPE_COUNTS: Final = TypeCounts.of((), np.zeros((0, 2), np.int32))


@dataclass(frozen=True, eq=False)
class MemberCounts:
    """How often names are declared by classes, or looked up in objects of them.

    Args:
        owners: names of classes and modules, and of results and names whose class is not known; see
            :mod:`~seqmlm_domains.code.owners`.
        entries: names, by the number of an owner in place of a context.
        bases: of each class that has some.
        types: of members, and of the results of functions; see
            :class:`~seqmlm_domains.code.owners.Owners`.
        modules: owners that are modules of the project.
    """

    owners: tuple[str, ...]
    entries: Counts
    bases: Mapping[str, Sequence[str]]
    types: Mapping[str, str]
    modules: frozenset[str]

    @classmethod
    def of(
        cls,
        owners: Sequence[str],
        pairs: npt.NDArray[np.int32],
        bases: Mapping[str, Sequence[str]],
        types: Mapping[str, str],
        modules: Collection[str] = (),
    ) -> MemberCounts:
        """Count pairs of the numbers of an owner and of a name, int32 ``[members, 2]``."""
        entries = Counts.of(pairs[:, 0].astype(np.uint64), pairs[:, 1])
        return cls(tuple(owners), entries, bases, types, frozenset(modules))

    def save(self, folder: Path) -> None:
        """Write the counts into a folder that exists."""
        content = {
            "owners": self.owners,
            "bases": self.bases,
            "types": self.types,
            "modules": sorted(self.modules),
        }
        text = json.dumps(content, ensure_ascii=False)
        (folder / _MEMBERS_FILE).write_text(text, encoding="utf-8")
        self.entries.save(folder, _MEMBERS)

    @classmethod
    def load(cls, folder: Path) -> MemberCounts:
        """Map what :meth:`save` wrote into memory.

        Raises:
            OSError, ValueError, KeyError: a file is missing or damaged.
        """
        content = json.loads((folder / _MEMBERS_FILE).read_text("utf-8"))
        if "types" not in content or "modules" not in content:
            _logger.warning(
                "%s was counted before the types of members were, and what modules declare: only "
                "the open file tells of those. Run `seqmlm code fit` again.",
                folder,
            )
        types, modules = content.get("types", {}), content.get("modules", ())
        entries = Counts.load(folder, _MEMBERS)
        return cls(tuple(content["owners"]), entries, content["bases"], types, frozenset(modules))

    @cached_property
    def number_of(self) -> dict[str, int]:
        """Number of each owner."""
        return {name: number for number, name in enumerate(self.owners)}

    def of_owner(self, name: str) -> Level | None:
        """Return the members of a class or module, and how often each was seen; None if none."""
        number = self.number_of.get(name)
        return None if number is None else self.entries.level(np.uint64(number))

    @cached_property
    def of_modules(self) -> npt.NDArray[np.int32]:
        """Numbers of the names that modules of the project declare, each once, int32 ``[n]``."""
        found = [level[0] for name in self.modules if (level := self.of_owner(name)) is not None]
        return np.unique(np.concatenate([np.zeros(0, np.int32), *found]))


NO_MEMBER_COUNTS: Final = MemberCounts.of((), np.zeros((0, 2), np.int32), {}, {})
