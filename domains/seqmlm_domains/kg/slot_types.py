"""Types of entities without an ontology: what a relation takes on either side."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import Encoding
from seqmlm_domains.kg.graph import GraphVocabulary
from seqmlm_domains.kg.linearisation import Linearisation, Part

Unit = tuple[int, ...]


@dataclass(frozen=True)
class SlotTypes:
    """An entity has the type of every (relation, side) that it fills in training.

    The type of a missing entity is the one that its triple asks for. All relations are of one type.

    Args:
        graph: gives entities and relations.
        linearisation: how they are written.
    """

    graph: GraphVocabulary
    linearisation: Linearisation

    def of(self, encoding: Encoding) -> Sequence[Hashable]:
        """Return the type of the missing part, or nothing where there is none to hide."""
        if encoding.unit_types is None or not len(encoding.unit_types):
            return []
        part = Part(int(encoding.unit_types[0]))
        written = np.flatnonzero(encoding.segment_ids == Part.RELATION)
        token = 0 if part == Part.RELATION else int(encoding.ids[written[0]])
        return [(part, token)]

    def known(
        self, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]
    ) -> Iterator[tuple[Hashable, Unit]]:
        """Yield heads, relations and tails of all triples, once for each type and wording."""
        line, relations = self.linearisation, len(self.graph.relations)
        seen: set[tuple[Part, int, int]] = set()
        for tokens in sequences:
            # In a record the numbers of entities follow those of relations.
            relation = int(tokens[1])
            head, tail = int(tokens[0]) - relations, int(tokens[2]) - relations
            own = int(line.relation_tokens[relation])
            filled = ((Part.HEAD, own, head), (Part.TAIL, own, tail), (Part.RELATION, 0, relation))
            for part, token, number in filled:
                if (part, token, number) not in seen:
                    seen.add((part, token, number))
                    for unit in filter(None, self._written(part, number)):
                        yield (part, token), unit

    def spelled(self, identifier: str) -> tuple[Unit | None, ...]:
        """Return what stands for an entity in each wording, then for a relation; None if none.

        An identifier may be that of an entity and of a relation.
        """
        entity = self.graph.entities.numbers.get(identifier)
        relation = self.graph.relation_numbers.get(identifier)
        wordings = [None] * len(self.linearisation.slots.wordings)
        return (
            *(wordings if entity is None else self._written(Part.TAIL, entity)),
            *([None] if relation is None else self._written(Part.RELATION, relation)),
        )

    def _written(self, part: Part, number: int) -> list[Unit | None]:
        """What stands for an entity in each of its sequences, or for a relation."""
        line = self.linearisation
        if part == Part.RELATION:
            return [(int(line.relation_tokens[number]),)]
        slots, ids = line.slots.targets(
            int(line.entities.id_tokens[number]), line.entities.name_tokens[number]
        )
        units: list[Unit | None] = []
        for wording in line.slots.wordings:
            asked = line.slots.of_wording(wording)
            unit = ids[(slots >= asked.start) & (slots < asked.stop)]
            units.append(tuple(unit.tolist()) or None)
        return units
