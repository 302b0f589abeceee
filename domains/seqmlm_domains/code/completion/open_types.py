"""What the types that a file leaves open turn out to be, by what is known of other classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.member_paths import followed, is_open
from seqmlm_domains.code.owners import class_of

_MOST_BASES: Final = 32


class OpenTypes:
    """Follows types from member to member.

    Args:
        language: of the code.
        types: tell those of members, see :class:`~seqmlm_domains.code.owners.Owners`; the first
            that knows one counts.
        bases: of classes.
    """

    def __init__(
        self,
        language: str,
        types: Sequence[Callable[[str], str | None]],
        bases: Mapping[str, Sequence[str]],
    ) -> None:
        self._rules = LANGUAGES[language].types
        self._types, self._bases = types, bases

    def class_of(self, owner: str) -> str | None:
        """Return the class that an owner is; the owner if it is none that was left open.

        None if it is the member of a class, and nothing is known of its type.
        """
        if not is_open(owner.encode()):
            return owner
        found = followed(owner.encode(), self._type_of)
        return None if found is None else class_of(found, self._rules).decode()

    def _type_of(self, member: bytes) -> bytes | None:
        """The type of a member, in its class or a base."""
        owner, _, name = member.decode().rpartition(".")
        classes = [owner]
        for each in classes:  # grows
            path = f"{each}.{name}" if owner else name
            found = next(filter(None, (type_of(path) for type_of in self._types)), None)
            if found is not None:
                return found.encode()
            if owner and len(classes) < _MOST_BASES:
                classes += (base for base in self._bases.get(each, ()) if base not in classes)
        return None
