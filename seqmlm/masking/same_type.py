"""Units of the same type, any of which may stand for another.

Of a domain that types its units the type is what each is where it stands: the role of an identifier
and its declared type. A domain may know better, as a graph does: an entity is one of those that the
relation takes on this side.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import Encoding, EncodingBatch, IntArray
from seqmlm.errors import ConfigError
from seqmlm.masking.fitting import STATISTICS_TOKENS
from seqmlm.masking.unit_table import Unit, units_of

if TYPE_CHECKING:
    from seqmlm.domain import Domain

StoredTokens = npt.NDArray[np.unsignedinteger[Any]]


class UnitTypes(Protocol):
    """Tells the types of units."""

    def of(self, encoding: Encoding) -> Sequence[Hashable]:
        """Return the type of every unit of an encoding."""
        ...

    def known(self, sequences: Iterable[StoredTokens]) -> Iterator[tuple[Hashable, Unit]]:
        """Yield the units of training records, each with a type that it has there."""
        ...


@runtime_checkable
class TypesUnits(Protocol):
    """A domain with types of its own, in the place of those of its encodings."""

    def types_of_units(self) -> UnitTypes:
        """Return what tells them; asked once the domain has its vocabulary."""
        ...


@dataclass(frozen=True)
class EncodedTypes:
    """What encodings say: the domain's class of a unit, and the type that the data declare.

    Args:
        domain: assembles encodings.
    """

    domain: Domain

    def of(self, encoding: Encoding) -> Sequence[Hashable]:
        """See :meth:`UnitTypes.of`.

        Raises:
            ConfigError: the encoding types no units.
        """
        given = [
            types.tolist()
            for types in (encoding.unit_types, encoding.declared_types)
            if types is not None
        ]
        if not given:
            raise ConfigError(
                f"similar corruptor: table = 'type', but domain {self.domain.registered_name!r} "
                "has no types of units. Use 'corpus', or the path of a table."
            )
        return list(zip(*given, strict=True))

    def known(self, sequences: Iterable[StoredTokens]) -> Iterator[tuple[Hashable, Unit]]:
        """See :meth:`UnitTypes.known`; of the first two million tokens."""
        seen = 0
        for tokens in sequences:
            if seen >= STATISTICS_TOKENS:
                return
            seen += len(tokens)
            encoding = self.domain.assemble(
                tokens, max_length=len(tokens) + self.domain.special_tokens_per_sequence
            )
            maskable = encoding.unit_ids >= 0
            units = units_of(encoding.ids[maskable], encoding.unit_ids[maskable])
            yield from zip(self.of(encoding), units, strict=True)


class SameTypeUnits:
    """All units of each type by number of tokens; a unit of several types is one of each.

    Args:
        types: of the domain.
        sequences: stored tokens of each training record.
    """

    def __init__(self, types: UnitTypes, sequences: Iterable[StoredTokens]) -> None:
        self._types = types
        # The place of each unit among the others, so that a draw can pass over it.
        self._places: dict[tuple[Hashable, int], dict[Unit, int]] = {}
        for unit_type, unit in types.known(sequences):
            places = self._places.setdefault((unit_type, len(unit)), {})
            places.setdefault(unit, len(places))
        self._units = {key: tuple(places) for key, places in self._places.items()}

    @property
    def members(self) -> Mapping[tuple[Hashable, int], tuple[Unit, ...]]:
        """Units by type and number of tokens, in the order in which training has them."""
        return self._units

    def types_of(self, batch: EncodingBatch, units: IntArray) -> list[Hashable]:
        """Return the types of some units of a batch, int ``[m]`` as numbered there, in order."""
        first = np.cumsum(batch.num_units) - batch.num_units
        owners = batch.encoding_of_unit[units]
        types = {owner: self._types.of(batch.encodings[owner]) for owner in set(owners.tolist())}
        places = (units - first[owners]).tolist()
        return [types[owner][at] for owner, at in zip(owners.tolist(), places, strict=True)]

    def draw(self, unit: Unit, unit_type: Hashable, uniform: float) -> Unit | None:
        """Return one of the other units of a type and length, all equally likely; None if none.

        Args:
            unit: what is replaced.
            unit_type: its type where it stands.
            uniform: drawn from [0, 1).
        """
        key = unit_type, len(unit)
        own = self._places.get(key, {}).get(unit)
        count = len(self._units.get(key, ())) - (own is not None)
        if not count:
            return None
        place = int(uniform * count)
        return self._units[key][place + (own is not None and place >= own)]


def same_type_units(domain: Domain, sequences: Iterable[StoredTokens]) -> SameTypeUnits:
    """Collect the units of training records by the types that a domain gives them.

    Memory and time grow with the records, of which graphs read all and other domains the first two
    million tokens: a second for 100,000 tokens.

    Raises:
        ConfigError: the domain has no types of units.
    """
    types = domain.types_of_units() if isinstance(domain, TypesUnits) else EncodedTypes(domain)
    return SameTypeUnits(types, sequences)
