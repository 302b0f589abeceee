"""Tokens and their ids, the special tokens among them, and which ids may be predicted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmlm.errors import ConfigError


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that carry structure instead of content.

    They lie outside every domain's range, so they are never masked, drawn or predicted.
    """

    padding: int
    unknown: int
    start: int
    end: int
    mask: int


@dataclass(frozen=True)
class Vocabulary:
    """The one-to-one table of tokens and ids shared by tokenizer, encoder and head.

    Args:
        tokens: token of every id; all different.
        special: ids of the special tokens.
        ranges: for each domain the half-open range ``(low, high)`` of ids that may replace a
            token or be predicted for one. A token outside every range is input only.

    Raises:
        ConfigError: a token occurs twice, a special is no id, or a range is empty, out of bounds
            or holds a special.
    """

    tokens: tuple[str, ...]
    special: SpecialTokens
    ranges: Mapping[str, tuple[int, int]]
    _ids: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ranges", MappingProxyType(dict(self.ranges)))
        object.__setattr__(self, "_ids", {token: i for i, token in enumerate(self.tokens)})
        if len(self._ids) != len(self.tokens):
            repeated = sorted(token for token, n in Counter(self.tokens).items() if n > 1)
            raise ConfigError(f"vocabulary: tokens occur more than once: {', '.join(repeated)}.")
        specials = asdict(self.special)
        for name, special in specials.items():
            if not 0 <= special < len(self.tokens):
                raise ConfigError(
                    f"vocabulary: the {name} token has id {special}; ids are in "
                    f"[0, {len(self.tokens)})."
                )
        for name, (low, high) in self.ranges.items():
            if not 0 <= low < high <= len(self.tokens):
                raise ConfigError(
                    f"vocabulary: the range of {name!r} is [{low}, {high}); it must be a non-empty "
                    f"part of [0, {len(self.tokens)})."
                )
            if any(low <= special < high for special in specials.values()):
                raise ConfigError(
                    f"vocabulary: the range [{low}, {high}) of {name!r} holds a special token."
                )

    def __len__(self) -> int:
        return len(self.tokens)

    def __deepcopy__(self, memo: object) -> Vocabulary:
        # Nothing in it can change; and a read-only mapping cannot be copied.
        return self

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def id_of(self, token: str) -> int:
        """Return the id of ``token``; unknown tokens get the id of the unknown token."""
        return self._ids.get(token, self.special.unknown)

    def fingerprint(self) -> str:
        """Return 16 hex digits that change when any token, special or range changes."""
        content = repr((self.tokens, self.special, sorted(self.ranges.items())))
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return the content as plain JSON values; :meth:`from_json` reverses it."""
        return {
            "tokens": list(self.tokens),
            "special": asdict(self.special),
            "ranges": {name: list(bounds) for name, bounds in self.ranges.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Vocabulary:
        """Rebuild a vocabulary from :meth:`to_json`."""
        return cls(
            tokens=tuple(content["tokens"]),
            special=SpecialTokens(**content["special"]),
            ranges={name: (low, high) for name, (low, high) in content["ranges"].items()},
        )


@dataclass(frozen=True, eq=False)
class AllowedTokens:
    """The set of ids that may be predicted at a target, as a bitset over the vocabulary.

    Bit ``i % 32`` of ``words[i // 32]`` says whether id ``i`` is allowed. The masked softmax
    gives every other id probability and gradient zero.
    """

    size: int
    words: npt.NDArray[np.int32]

    @classmethod
    def of(cls, ids: Iterable[int] | Sequence[int], size: int) -> AllowedTokens:
        """Allow exactly ``ids`` out of ``size`` ids.

        Raises:
            ConfigError: an id is not in [0, size).
        """
        chosen = np.fromiter(ids, dtype=np.int64)
        outside = chosen[(chosen < 0) | (chosen >= size)]
        if outside.size:
            raise ConfigError(f"allowed tokens: id {outside[0]} is not in [0, {size}).")
        bits = np.zeros(-(-size // 32) * 32, dtype=np.uint8)
        bits[chosen] = 1
        return cls(size, np.packbits(bits, bitorder="little").view(np.int32))

    def mask(self) -> npt.NDArray[np.bool_]:
        """Return bool ``[size]``, True where the id is allowed."""
        bits = np.unpackbits(self.words.view(np.uint8), bitorder="little")
        return bits[: self.size].astype(np.bool_)


@dataclass(frozen=True, slots=True)
class AllowedPerTarget:
    """What may be predicted where targets of one row differ in it.

    Args:
        sets: the different sets.
        index: int32 ``[m]``, the set of each target.
    """

    sets: tuple[AllowedTokens, ...]
    index: npt.NDArray[np.int32]
