"""What is asked of a completer and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from seqmlm.errors import ConfigError, UnknownNameError, suggestion
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.roles import Role

ONLY: Final = "only"
"""Source of a name that is the only one that fits what is typed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """A place in a text where a name is due.

    Args:
        source: the whole text, on both sides of the cursor.
        offset: of the cursor, in characters (Unicode code points) of ``source``.
        language: a key of :data:`~seqmlm_domains.code.languages.LANGUAGES`.
        limit: most completions to return.
        roles: what the name may do there: only names that do it somewhere in the project or around
            the cursor are proposed, and the model chooses among their tokens; any if absent or
            empty.
        types: simple names of types, such as ``List`` or ``int[]``: only names that are declared
            with one of them are proposed, in the same way: where the name is bound at the cursor by
            that declaration, else anywhere in the project or around the cursor; and a model that
            was trained by ``typed_mlm`` expects no other type; any if absent or empty.
    """

    source: str
    offset: int
    language: str
    limit: int = 10
    roles: frozenset[Role] | None = None
    types: frozenset[str] | None = None

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: an argument is of another type, the language is not known, the offset is
                outside the text, or the limit is less than 1.
        """
        for name, kind in (("source", str), ("language", str), ("offset", int), ("limit", int)):
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ConfigError(f"{name} = {value!r}: it must be of type {kind.__name__}.")
        if self.language not in LANGUAGES:
            raise ConfigError(
                f"language = {self.language!r}: it is one of {', '.join(LANGUAGES)}."
                f"{suggestion(self.language.lower(), LANGUAGES)}"
            )
        if not 0 <= self.offset <= len(self.source):
            raise ConfigError(
                f"offset = {self.offset}: the source has {len(self.source):,} characters."
            )
        if self.limit < 1:
            raise ConfigError(f"limit = {self.limit}: it is at least 1.")


def roles_named(roles: Iterable[Role | str]) -> frozenset[Role]:
    """Return roles that are given as such or by name, in any letter case.

    Raises:
        UnknownNameError: there is no such role.
        ConfigError: it is a single name.
    """
    _require_several("roles", roles)
    known = {role.name.lower(): role for role in Role if role != Role.OTHER}
    found = set()
    for given in roles:
        name = given.name if isinstance(given, Role) else str(given)
        if name.lower() not in known:
            raise UnknownNameError("role", name.lower(), known)
        found.add(known[name.lower()])
    return frozenset(found)


def types_named(types: Iterable[str]) -> frozenset[str]:
    """Return types that are given by their simple names.

    Raises:
        ConfigError: it is a single name, or one is no string.
    """
    _require_several("types", types)
    found = frozenset(types)
    for name in found:
        if not isinstance(name, str):
            raise ConfigError(f"types: {name!r} is no name of a type.")
    return found


def _require_several(argument: str, given: Iterable[object]) -> None:
    """A string would be taken for its letters."""
    if isinstance(given, str):
        raise ConfigError(f"{argument} = {given!r}: give several, such as [{given!r}].")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A name for the place of the cursor.

    Args:
        text: the whole name, what is already typed of it included.
        start: first character of ``source`` that the name replaces: where the typed prefix begins.
        end: one past the last character that it replaces: the cursor's offset.
        word_end: one past the word that the cursor stands in, more than ``end`` where that goes on
            behind the cursor: who replaces ``start`` to ``word_end`` leaves no rest of it.
        score: natural logarithm of the mixture's probability of the name, among the candidates
            that begin with the prefix.
        source: the part that favours the name most, a key of ``parts``; :data:`ONLY` of a name that
            is the only candidate, which no part can favour.
        parts: part -> what it adds to the name's score, less what it adds to that of the average
            candidate, nats. They add up to how far the score is above the average one.
        role: what the name mostly is in the project and around the cursor; None if not known.
        type: simple name of the type that it is declared with; None if with none that is known, or
            if it is a function or class. Where types are asked for, the one of these that it has,
            a function that of its result, and ``role`` is as what it has that.
    """

    text: str
    start: int
    end: int
    word_end: int
    score: float
    source: str
    parts: Mapping[str, float]
    role: Role | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class ExpectedType:
    """A type that the name at the cursor may have.

    Args:
        name: simple, such as ``List``; ``<unknown>`` for all that the model does not tell apart.
        probability: 1 for the one that the source gives, else the model's.
    """

    name: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionResult:
    """The answer to one request.

    Args:
        completions: best first; none where no name can stand, as within a comment or a string.
        used_model: whether the neural model took part; without it the answer is lexical.
        types: the most probable types of the name, best first, on which its tokens were
            conditioned; none if the model has no stage of types or read from left to right.
    """

    completions: tuple[Completion, ...]
    used_model: bool
    types: tuple[ExpectedType, ...] = ()
