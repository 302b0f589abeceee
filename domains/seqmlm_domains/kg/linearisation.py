"""A triple with one part missing as the sequence that the encoder reads.

``start | head | relation | tail | end``, in segments 0, 1 and 2. A known entity is its own token
(if entities have one), its name and, after a separator, its description. The missing entity is a
fixed number of slots whatever its length, so that the length tells nothing (MLMLM, Clouatre et
al., Findings of ACL 2021): its tokens stand there as one unit that can be hidden, and the slots
left over hold the mask token from the beginning.

An entity with both an own token and a text is asked for in two sequences, one with the slot of the
token and one with those of the text: in one, every query for a token would carry a dozen slots
that say nothing, and training would spend most of its time on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import NOT_MASKABLE, Encoding
from seqmlm.errors import ConfigError
from seqmlm.vocabulary import SpecialTokens
from seqmlm_domains.kg.entities import NO_TOKEN, EntityTable
from seqmlm_domains.kg.names import IntArray, RaggedTokens

Representation = Literal["tokens", "id", "both"]
End = Literal["ignore", "eos", "pad"]

Context = Literal["own", "both"]
Wording = Literal["own", "text"]
"""What a sequence asks for: the missing entity's own token, or its text."""

UNKNOWN_ENTITY = -1
"""Stands for a number where nothing is known of an entity: it is the unknown token alone."""


class Part(IntEnum):
    """A part of a triple; also the type of its unit and its segment."""

    HEAD = 0
    RELATION = 1
    TAIL = 2


@dataclass(frozen=True)
class Slots:
    """How a missing entity is written.

    Args:
        representation: by the ``tokens`` of its name, its own token (``id``), or ``both``, its
            own token first.
        end: what follows the name: ``ignore`` predicts nothing there (the paper), ``eos`` one
            end token, ``pad`` end tokens up to the last slot.
        name: slots for the name, the end token included.
        end_token: vocabulary id.
    """

    representation: Representation
    end: End
    name: int
    end_token: int

    @property
    def own(self) -> int:
        """Slots for the entity's own token, 0 or 1."""
        return int(self.representation != "tokens")

    @property
    def total(self) -> int:
        """All slots of a missing entity."""
        return self.own + (0 if self.representation == "id" else self.name)

    @property
    def wordings(self) -> tuple[Wording, ...]:
        """The sequences that together ask for all of an entity, in the order of their slots."""
        if self.representation == "both":
            return "own", "text"
        return ("own",) if self.own else ("text",)

    def of_wording(self, wording: Wording) -> range:
        """Return the numbers of the slots that a sequence has."""
        return range(self.own) if wording == "own" else range(self.own, self.total)

    def targets(self, id_token: int, name: IntArray) -> tuple[IntArray, IntArray]:
        """Return slots and vocabulary ids of what is predicted for an entity.

        Args:
            id_token: of the entity; -1 if it has none, then nothing is predicted in its slot.
            name: tokens of its name.

        Returns:
            int32 ``[k]`` slot numbers, increasing, and int32 ``[k]`` ids.
        """
        slots = np.arange(0, dtype=np.int32)
        ids = slots
        if self.own and id_token != NO_TOKEN:
            slots, ids = np.zeros(1, np.int32), np.array([id_token], np.int32)
        if self.representation != "id":
            ends = {"ignore": 0, "eos": 1, "pad": self.name - len(name)}[self.end]
            words = np.concatenate([name, np.full(ends, self.end_token, np.int32)])
            places = np.arange(len(words), dtype=np.int32) + np.int32(self.own)
            slots, ids = np.concatenate([slots, places]), np.concatenate([ids, words])
        return slots, ids


@dataclass(frozen=True)
class Linearisation:
    """Writes triples of one graph as encodings.

    Args:
        special: of the vocabulary; ``end`` also parts name and description.
        entities: their tokens.
        relation_tokens: int32 ``[relations]``, the vocabulary id of each relation's own token.
        relation_names: tokens of what each relation is called.
        relation_descriptions: tokens of their descriptions.
        slots: how a missing entity is written.
        max_description_tokens: of a known entity or relation; 0 leaves descriptions out.
        context: what stands for a known entity that has an own token: that token alone (``own``),
            or ``both`` token and text. Text alone stands for one without, or whose token is
            dropped. Likewise for relations, which all have a token.
    """

    special: SpecialTokens
    entities: EntityTable
    relation_tokens: IntArray
    relation_names: RaggedTokens
    relation_descriptions: RaggedTokens
    slots: Slots
    max_description_tokens: int
    context: Context = "both"

    def encode(
        self,
        triple: tuple[int, int, int],
        missing: Part,
        *,
        max_length: int,
        drop_ids: tuple[bool, bool] = (False, False),
        wording: Wording | None = None,
    ) -> Encoding:
        """Return the sequence of a triple, its missing part as the one unit.

        Args:
            triple: numbers of head, relation and tail; :data:`UNKNOWN_ENTITY` may be one.
            missing: the part that can be hidden.
            max_length: tokens at most; descriptions give way, then names of known entities.
            drop_ids: whether the own token of head and of tail is replaced by the unknown token,
                if the entity is known: what remains is its text.
            wording: what is asked for of a missing entity; the first that there is if None.

        Raises:
            ConfigError: ``max_length`` has no room for the slots and a token of each known part.
        """
        parts = [self._entity(triple[0], drop_ids[0]), self._relation(triple[1], missing)]
        parts.append(self._entity(triple[2], drop_ids[1]))
        descriptions = [
            self._description(triple[0], drop_ids[0]),
            self._relation_description(triple[1]),
            self._description(triple[2], drop_ids[1]),
        ]
        predicted = np.zeros(1, np.int32)
        descriptions[missing] = np.zeros(0, np.int32)
        if missing != Part.RELATION:
            number = triple[missing]
            slots = self.slots.of_wording(wording or self.slots.wordings[0])
            predicted, ids = self.slots.targets(
                int(self.entities.id_tokens[number]), self.entities.name_tokens[number]
            )
            is_asked = (predicted >= slots.start) & (predicted < slots.stop)
            predicted, ids = predicted[is_asked] - np.int32(slots.start), ids[is_asked]
            parts[missing] = np.full(len(slots), self.special.mask, np.int32)
            parts[missing][predicted] = ids
        self._shorten(parts, descriptions, missing, max_length - 2)
        parts = [np.concatenate(both) for both in zip(parts, descriptions, strict=True)]
        lengths = [len(part) for part in parts]
        start = 1 + sum(lengths[:missing])
        unit_ids = np.full(sum(lengths) + 2, NOT_MASKABLE, np.int32)
        unit_ids[start + predicted] = 0
        return Encoding(
            ids=np.concatenate([[self.special.start], *parts, [self.special.end]]).astype(np.int32),
            unit_ids=unit_ids,
            segment_ids=np.repeat(
                np.array([0, 1, 2], np.int32), [lengths[0] + 1, lengths[1], lengths[2] + 1]
            ),
            unit_types=np.full(int(len(predicted) > 0), missing, np.int32),
        )

    def relation_text(self, number: int) -> IntArray:
        """Return what follows the own token of a known relation, if nothing has to be cut."""
        return np.concatenate([self.relation_names[number], self._relation_description(number)])

    def lengths(self, triples: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the tokens of the longest sequence of each triple, uncut, int64 ``[n]``.

        Args:
            triples: int64 ``[n, 3]``, numbers of head, relation and tail.
        """
        entities = np.full(len(self.entities), self.slots.own, np.int64)
        relations = np.ones(len(self.relation_names), np.int64)
        if self.slots.representation != "id":  # hidden own tokens leave the text, shown or not
            entities += self.entities.name_tokens.lengths
            entities += self._separated_lengths(self.entities.description_tokens)
        if self._shows_text(has_own=True):
            relations += self.relation_names.lengths
            relations += self._separated_lengths(self.relation_descriptions)
        slots = max(len(self.slots.of_wording(wording)) for wording in self.slots.wordings)
        head, tail = (entities[triples[:, part]] for part in (Part.HEAD, Part.TAIL))
        by_relation = relations[triples[:, Part.RELATION]] + slots
        longest: npt.NDArray[np.int64] = np.maximum(
            np.maximum(head, tail) + by_relation, head + 1 + tail
        )
        return longest + 2

    def slot_start(self, encoding: Encoding, missing: Part) -> int:
        """Return the position of the first slot of a missing part."""
        if missing == Part.HEAD:
            return 1
        first = int(np.flatnonzero(encoding.segment_ids == missing)[0])
        return first

    def _entity(self, number: int, drop_id: bool) -> IntArray:
        """What stands for a known entity: own token and name."""
        if number == UNKNOWN_ENTITY:
            return np.array([self.special.unknown], np.int32)
        parts: list[npt.NDArray[np.int32]] = []
        has_own = self._has_own(number, drop_id)
        if self.slots.own:
            token = int(self.entities.id_tokens[number]) if has_own else self.special.unknown
            parts.append(np.array([token], np.int32))
        if self._shows_text(has_own):
            parts.append(self.entities.name_tokens[number])
        return np.concatenate(parts)

    def _description(self, number: int, drop_id: bool) -> IntArray:
        """Separator and description of a known entity; nothing if there is none to write."""
        if number == UNKNOWN_ENTITY or not self._shows_text(self._has_own(number, drop_id)):
            return np.zeros(0, np.int32)
        return self._separated(self.entities.description_tokens[number])

    def _relation_description(self, number: int) -> IntArray:
        if not self._shows_text(has_own=True):
            return np.zeros(0, np.int32)
        return self._separated(self.relation_descriptions[number])

    def _separated(self, description: IntArray) -> IntArray:
        words = description[: self.max_description_tokens]
        separator = np.full(int(len(words) > 0), self.special.end, np.int32)
        return np.concatenate([separator, words])

    def _has_own(self, number: int, drop_id: bool) -> bool:
        """Whether an entity is known by a token of its own."""
        is_known = self.entities.id_tokens[number] != NO_TOKEN
        return bool(self.slots.own) and bool(is_known) and not drop_id

    def _shows_text(self, has_own: bool) -> bool:
        """Whether text is written where there is an own token, or is none."""
        if self.slots.representation == "id":
            return False
        return self.context == "both" or not has_own

    def _relation(self, number: int, missing: Part) -> IntArray:
        """Its own token, and its name unless it is to be predicted."""
        own = self.relation_tokens[number : number + 1]
        if missing == Part.RELATION or not self._shows_text(has_own=True):
            return own
        return np.concatenate([own, self.relation_names[number]])

    def _separated_lengths(self, descriptions: RaggedTokens) -> npt.NDArray[np.int64]:
        """Tokens of each description and its separator."""
        words = np.minimum(descriptions.lengths, self.max_description_tokens)
        return words + (words > 0)

    def _shorten(
        self, parts: list[IntArray], descriptions: list[IntArray], missing: Part, room: int
    ) -> None:
        """Cut descriptions, then the ends of known parts, the longest first, until all fit."""
        known = [part for part in Part if part != missing]
        excess = sum(map(len, [*parts, *descriptions])) - room
        for pieces, least in ((descriptions, 0), (parts, 1)):
            while excess > 0:
                longest = max(known, key=lambda part: len(pieces[part]))
                if len(pieces[longest]) <= least:
                    break
                pieces[longest] = pieces[longest][:-1]
                excess -= 1
        if excess > 0:
            raise ConfigError(
                f"data.max_length = {room + 2}: a triple with {len(parts[missing])} slots for its "
                f"missing part needs at least {len(parts[missing]) + 4} tokens."
            )
