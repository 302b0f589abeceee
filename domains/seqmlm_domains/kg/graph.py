"""Everything that stands for the entities and relations of a graph: numbers, tokens, texts."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from seqmlm.errors import DataError
from seqmlm.vocabulary import SpecialTokens, Vocabulary
from seqmlm_domains.kg.entities import NO_TOKEN, Collisions, EntityTable, entity_table
from seqmlm_domains.kg.linearisation import (
    Context,
    End,
    Linearisation,
    Representation,
    Slots,
)
from seqmlm_domains.kg.names import NameTokenizer, RaggedTokens
from seqmlm_domains.kg.triples import NameAndDescription

logger = logging.getLogger("seqmlm")

Texts = Literal["entity", "relation"]
"""Names of the records that carry texts instead of a triple."""

SPECIAL: Final = SpecialTokens(padding=0, unknown=1, start=2, end=3, mask=4)
SPECIAL_TOKENS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
END_OF_NAME: Final = "[END]"


@dataclass(frozen=True)
class GraphVocabulary:
    """Entities, relations and sub-words of one graph, with their vocabulary ids.

    The vocabulary is: special tokens; ``[END]`` of a name; a token per relation; a token per
    entity of the training triples, unless entities are written by name alone; sub-words.

    Args:
        name: of the domain, whose range is everything after the special tokens.
        representation: of entities.
        end: of names.
        relations: identifiers, in the order of their numbers.
        relation_texts: what they are called, in the same order.
        entities: see :class:`EntityTable`.
        tokenizer: of names.
        collisions: what was done about equal names.
        max_name_tokens: of an entity.
    """

    name: str
    representation: Representation
    end: End
    relations: tuple[str, ...]
    relation_texts: tuple[NameAndDescription, ...]
    entities: EntityTable
    tokenizer: NameTokenizer = field(compare=False)
    collisions: Collisions
    max_name_tokens: int

    @cached_property
    def relation_numbers(self) -> dict[str, int]:
        """Number of each relation's identifier."""
        return {identifier: number for number, identifier in enumerate(self.relations)}

    @property
    def end_token(self) -> int:
        """Vocabulary id of the end of a name."""
        return len(SPECIAL_TOKENS)

    @property
    def first_relation(self) -> int:
        """Vocabulary id of relation 0."""
        return len(SPECIAL_TOKENS) + 1

    @property
    def first_entity(self) -> int:
        """Vocabulary id of the own token of entity 0, if entities have one."""
        return self.first_relation + len(self.relations)

    @cached_property
    def first_subword(self) -> int:
        """Vocabulary id of sub-word 0."""
        return self.first_entity + int((self.entities.id_tokens != NO_TOKEN).sum())

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """All tokens; the domain's range leaves out the special ones."""
        known = self.first_subword - self.first_entity
        tokens = (
            *SPECIAL_TOKENS,
            END_OF_NAME,
            *(f"relation:{identifier}" for identifier in self.relations),
            *(f"entity:{identifier}" for identifier in self.entities.identifiers[:known]),
            *self.tokenizer.tokens,
        )
        return Vocabulary(tokens, SPECIAL, {self.name: (len(SPECIAL_TOKENS), len(tokens))})

    @cached_property
    def relation_names(self) -> RaggedTokens:
        """Vocabulary ids of what each relation is called."""
        return self._words([text.name for text in self.relation_texts])

    @cached_property
    def relation_descriptions(self) -> RaggedTokens:
        """Vocabulary ids of the relations' descriptions."""
        return self._words([text.description for text in self.relation_texts])

    def linearisation(self, *, max_description_tokens: int, context: Context) -> Linearisation:
        """Return what writes triples of this graph as sequences; see :class:`Linearisation`."""
        return Linearisation(
            special=SPECIAL,
            entities=self.entities,
            relation_tokens=np.arange(
                self.first_relation, self.first_relation + len(self.relations), dtype=np.int32
            ),
            relation_names=self.relation_names,
            relation_descriptions=self.relation_descriptions,
            slots=Slots(
                self.representation,
                self.end,
                name=self.max_name_tokens + (self.end != "ignore"),
                end_token=self.end_token,
            ),
            max_description_tokens=max_description_tokens,
            context=context,
        )

    def first_tokens(self) -> npt.NDArray[np.uint32]:
        """Return the first vocabulary id of every relation and then of every entity."""
        table = self.entities
        own = table.id_tokens.copy()
        nameless = own == NO_TOKEN
        own[nameless] = table.name_tokens.flat[table.name_tokens.offsets[:-1][nameless]]
        relations = np.arange(self.first_relation, self.first_entity)
        return np.concatenate([relations, own]).astype(np.uint32)

    def with_entities(self, added: Mapping[str, NameAndDescription]) -> GraphVocabulary:
        """Return a graph with more entities, which have no token of their own.

        Nothing that existed changes, least of all the vocabulary. Where entities are written by
        their own token alone, nothing can tell the new ones apart.

        Raises:
            DataError: an entity exists already, or its identifier is empty.
        """
        for identifier in added:
            if not identifier.strip():
                raise DataError("An entity needs an identifier that is not empty.")
            if identifier in self.entities.numbers:
                raise DataError(f"The entity {identifier!r} exists already.")
        names = [text.name or spoken(identifier) for identifier, text in added.items()]
        fresh = entity_table(
            list(added),
            names,
            [text.description for text in added.values()],
            id_tokens=np.full(len(added), NO_TOKEN, np.int32),
            tokenizer=self.tokenizer,
            first_subword=self.first_subword,
            max_name_tokens=self.max_name_tokens,
            collisions=self.collisions,
            others=self.entities,
        )
        joined = self.entities.joined(fresh, tokenizer=self.tokenizer)
        if joined.num_ties > self.entities.num_ties and self.representation != "id":
            logger.warning(
                "%d entities have the same name as another to the model, and always the same "
                "score: domain.collisions = %r",
                joined.num_ties,
                self.collisions,
            )
        return replace(self, entities=joined)

    def decode(self, ids: Sequence[int], linearisation: Linearisation) -> str:
        """Return head, relation and tail of a sequence, parted by tabs; ``[MASK]`` if hidden."""
        inner = [token for token in ids if token != SPECIAL.start]
        relations = range(self.first_relation, self.first_entity)
        place = next((i for i, token in enumerate(inner) if token in relations), None)
        mask = SPECIAL_TOKENS[SPECIAL.mask]
        if place is None:  # the relation is hidden: its one slot
            place = inner.index(SPECIAL.mask) if SPECIAL.mask in inner else 0
            relation, tail = mask, inner[place + 1 :]
        else:
            number = inner[place] - self.first_relation
            relation, tail = self.relations[number], inner[place + 1 :]
            text = linearisation.relation_text(number).tolist()
            # The relation's text is not there while it is the missing part; a tail's name may
            # begin alike.
            is_whole = SPECIAL.mask not in tail and self._entity_of(tail) != mask
            if tail[: len(text)] == text and not is_whole:
                tail = tail[len(text) :]
        return "\t".join([self._entity_of(inner[:place]), relation, self._entity_of(tail)])

    def to_json(self) -> str:
        """Return everything as JSON; :meth:`from_json` reverses it."""
        table = self.entities
        content = {
            "name": self.name,
            "entities": self.representation,
            "end": self.end,
            "collisions": self.collisions,
            "max_name_tokens": self.max_name_tokens,
            "relations": [
                [identifier, text.name, text.description]
                for identifier, text in zip(self.relations, self.relation_texts, strict=True)
            ],
            "entity_texts": [
                [identifier, name, description]
                for identifier, name, description in zip(
                    table.identifiers, table.names, table.descriptions, strict=True
                )
            ],
            "id_tokens": table.id_tokens.tolist(),
            "name_tokens": [table.name_tokens[i].tolist() for i in range(len(table))],
            "num_collisions": table.num_collisions,
            "num_ties": table.num_ties,
            "tokenizer": json.loads(self.tokenizer.to_json()),
        }
        return json.dumps(content, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> GraphVocabulary:
        """Rebuild what :meth:`to_json` gave.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        content: dict[str, Any] = json.loads(text)
        tokenizer = NameTokenizer(json.dumps(content["tokenizer"]))
        identifiers, names, descriptions = zip(*content["entity_texts"], strict=True)
        id_tokens = np.array(content["id_tokens"], np.int32)
        known = int((id_tokens != NO_TOKEN).sum())
        first_subword = len(SPECIAL_TOKENS) + 1 + len(content["relations"]) + known
        encoded = tokenizer.encode(descriptions)
        return cls(
            name=content["name"],
            representation=content["entities"],
            end=content["end"],
            relations=tuple(entry[0] for entry in content["relations"]),
            relation_texts=tuple(NameAndDescription(*entry[1:]) for entry in content["relations"]),
            entities=EntityTable(
                identifiers,
                names,
                descriptions,
                id_tokens,
                RaggedTokens.of(content["name_tokens"]),
                RaggedTokens.of([[token + first_subword for token in ids] for ids in encoded]),
                content["num_collisions"],
                content["num_ties"],
            ),
            tokenizer=tokenizer,
            collisions=content["collisions"],
            max_name_tokens=content["max_name_tokens"],
        )

    def _words(self, texts: Sequence[str]) -> RaggedTokens:
        encoded = self.tokenizer.encode(texts)
        return RaggedTokens.of([[token + self.first_subword for token in ids] for ids in encoded])

    @cached_property
    def _by_name(self) -> dict[tuple[int, ...], int]:
        table = self.entities
        return {tuple(table.name_tokens[i].tolist()): i for i in reversed(range(len(table)))}

    def _entity_of(self, tokens: Sequence[int]) -> str:
        """Identifier of the entity that a part of a sequence stands for."""
        for token in tokens:
            if self.first_entity <= token < self.first_subword:
                return self.entities.identifiers[token - self.first_entity]
        name = []
        for token in tokens:
            if token in (SPECIAL.end, self.end_token):
                break
            if token >= self.first_subword:
                name.append(token)
        number = self._by_name.get(tuple(name))
        if number is None:
            return SPECIAL_TOKENS[SPECIAL.mask]
        return self.entities.identifiers[number]


def spoken(identifier: str) -> str:
    """Return an identifier as people would say it: the end of an IRI, ``_`` as spaces."""
    tail = identifier.rstrip("/#").rsplit("/", 1)[-1].rsplit("#", 1)[-1]
    return " ".join(tail.replace("_", " ").split()) or identifier
