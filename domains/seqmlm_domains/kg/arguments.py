"""Arguments of the Python interface: what they must be, and what is said where they are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, get_args

from seqmlm.errors import ConfigError, DataError, suggestion
from seqmlm_domains.kg.triples import NameAndDescription, StatedTriple

Texts = Mapping[str, str | NameAndDescription]
"""Names, or names and descriptions, by identifier."""

_BREAKS: Final = ("\t", "\n", "\r")


def choice(key: str, given: object, allowed: object) -> None:
    """Refuse what is none of the strings of a ``Literal``.

    Raises:
        ConfigError: names what is allowed and a similar one.
    """
    names = get_args(allowed)
    if given not in names:
        closest = suggestion(given.lower(), names) if isinstance(given, str) else ""
        raise ConfigError(f"{key} = {given!r}: it is one of {', '.join(names)}.{closest}")


def whole_number(key: str, given: object, *, least: int) -> None:
    """Refuse what is no integer, or too small a one.

    Raises:
        ConfigError: it says what is allowed.
    """
    if not isinstance(given, int) or isinstance(given, bool) or given < least:
        raise ConfigError(f"{key} = {given!r}: it must be an integer of at least {least}.")


def share(key: str, given: object) -> None:
    """Refuse what is no number from 0 to 1.

    Raises:
        ConfigError: it says what is allowed.
    """
    if not isinstance(given, int | float) or isinstance(given, bool) or not 0 <= given <= 1:
        raise ConfigError(f"{key} = {given!r}: it is a probability in [0, 1].")


def strings(key: str, given: object) -> list[str]:
    """Return a list of strings as one; a string alone is none, though it can be iterated over.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ConfigError(f"{key} = {given!r}: it must be a list of strings, such as ['a', 'b'].")
    items = list(given)
    for item in items:
        if not isinstance(item, str):
            raise ConfigError(f"{key}: {item!r} is no string. Write identifiers as strings.")
    return items


def stated_triples(given: object) -> list[StatedTriple]:
    """Return triples of identifiers as a list.

    Raises:
        ConfigError: it is no iterable of triples.
        DataError: one is not three strings; says which.
    """
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ConfigError(
            f"triples = {given!r}: they must be a list of (head, relation, tail), three strings "
            "each."
        )
    return [_triple(item, number) for number, item in enumerate(given, start=1)]


def texts_by_identifier(key: str, given: object) -> dict[str, NameAndDescription]:
    """Return names and descriptions; a string is a name.

    Raises:
        ConfigError: it is no mapping.
        DataError: an identifier or a text is none; says which.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"{key} = {given!r}: it must map identifiers to names, such as {{'q1': 'Oslo'}}."
        )
    found: dict[str, NameAndDescription] = {}
    for identifier, text in given.items():
        require_identifier(key, identifier)
        if isinstance(text, str):
            text = NameAndDescription(text)
        if not isinstance(text, NameAndDescription) or not _are_strings(
            (text.name, text.description)
        ):
            raise DataError(
                f"{key}: {identifier!r}: {text!r}; it must be a name, or a "
                "NameAndDescription(name, description) of two strings."
            )
        found[identifier] = text
    return found


def require_identifier(key: str, given: object) -> None:
    """Refuse what no file of triples could hold.

    Raises:
        DataError: it is no string, empty, or has a tab or line break.
    """
    if not isinstance(given, str):
        raise DataError(f"{key}: {given!r} is no string. Write identifiers as strings.")
    if not given.strip():
        raise DataError(f"{key}: an entity needs an identifier that is not empty.")
    if any(mark in given for mark in _BREAKS):
        raise DataError(f"{key}: {given!r} holds a tab or line break; no identifier may.")


def _triple(item: object, number: int) -> StatedTriple:
    if not isinstance(item, Sequence) or isinstance(item, str) or len(item) != 3:
        raise DataError(f"triple {number}: {item!r}; it must be (head, relation, tail).")
    if not _are_strings(item):
        raise DataError(f"triple {number}: {item!r}; head, relation and tail must be strings.")
    head, relation, tail = item
    return head, relation, tail


def _are_strings(items: Iterable[object]) -> bool:
    return all(isinstance(item, str) for item in items)
