"""What a graph's records mention, numbered, and the sub-words of its names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from seqmlm.domain import Record
from seqmlm_domains.kg.entities import NO_TOKEN, Collisions, entity_table
from seqmlm_domains.kg.graph import SPECIAL_TOKENS, GraphVocabulary, spoken
from seqmlm_domains.kg.linearisation import End, Representation
from seqmlm_domains.kg.names import NameTokenizer
from seqmlm_domains.kg.triples import NameAndDescription


@dataclass
class _Mentioned:
    """What records say there is: identifiers of triples, and texts."""

    trained: set[str] = field(default_factory=set)
    held_out: set[str] = field(default_factory=set)
    relations: set[str] = field(default_factory=set)
    entity_texts: dict[str, NameAndDescription] = field(default_factory=dict)
    relation_texts: dict[str, NameAndDescription] = field(default_factory=dict)

    @classmethod
    def in_records(cls, records: Iterable[Record]) -> _Mentioned:
        """Collect it in one pass."""
        found = cls()
        texts = {"entity": found.entity_texts, "relation": found.relation_texts}
        for record in records:
            first, second, third = record.content.split("\t")
            if record.name in texts:
                texts[record.name][first] = NameAndDescription(second, third)
            elif record.name == "validation":
                found.held_out |= {first, third}
            else:
                found.trained |= {first, third}
                found.relations.add(second)
        return found

    def in_order(self, *, with_text_alone: bool) -> _Ordered:
        """Sort it: entities of the training triples, of validation alone, of texts alone."""
        trained = sorted(self.trained)
        entities = [*trained, *sorted(self.held_out - self.trained)]
        if with_text_alone:
            entities += sorted(self.entity_texts.keys() - self.trained - self.held_out)
        relations = sorted(self.relations)
        return _Ordered(
            entities,
            _named(entities, self.entity_texts),
            len(trained),
            relations,
            _named(relations, self.relation_texts),
        )


@dataclass(frozen=True)
class _Ordered:
    """Entities and relations in the order of their numbers, with texts that all have a name."""

    entities: list[str]
    entity_texts: list[NameAndDescription]
    num_trained: int
    relations: list[str]
    relation_texts: list[NameAndDescription]

    def names_to_learn(self) -> list[str]:
        """Of what is trained on."""
        return [text.name for text in (*self._trained_texts, *self.relation_texts)]

    def descriptions_to_learn(self) -> list[str]:
        """Of what is trained on, as far as there are any."""
        texts = (*self._trained_texts, *self.relation_texts)
        return [text.description for text in texts if text.description]

    @property
    def _trained_texts(self) -> list[NameAndDescription]:
        return self.entity_texts[: self.num_trained]


def _named(
    identifiers: Sequence[str], texts: Mapping[str, NameAndDescription]
) -> list[NameAndDescription]:
    """Texts of identifiers; what nothing names is called as it is spoken."""
    known = [texts.get(identifier, NameAndDescription("")) for identifier in identifiers]
    return [
        replace(text, name=text.name or spoken(identifier))
        for identifier, text in zip(identifiers, known, strict=True)
    ]


def learn_vocabulary(
    records: Iterable[Record],
    *,
    name: str,
    representation: Representation,
    end: End,
    collisions: Collisions,
    vocabulary_size: int,
    lowercase: bool,
    max_name_tokens: int,
    max_description_tokens: int,
) -> GraphVocabulary:
    """Number what the records hold and learn the sub-words of its names.

    Entities of the training triples come first, sorted, each with a token of its own unless
    ``representation`` is ``tokens``; those of validation triples alone follow, without, and then
    those that only a text mentions. With ``id`` nothing could tell these apart: they are left out.

    Args:
        records: triples and texts as :func:`~seqmlm_domains.kg.reader.read_graph` yields them.
        name: of the domain.
        representation: see :class:`GraphVocabulary`, as for ``end`` and ``collisions``.
        end: of names.
        collisions: what to do about equal names.
        vocabulary_size: sub-words at most.
        lowercase: whether case is dropped.
        max_name_tokens: longer names are cut.
        max_description_tokens: 0 keeps descriptions from shaping the sub-words: long texts that no
            sequence has would cut names into more of them.
    """
    found = _Mentioned.in_records(records).in_order(with_text_alone=representation != "id")
    descriptions = found.descriptions_to_learn() if max_description_tokens else []
    tokenizer = NameTokenizer.train(
        [*found.names_to_learn(), *descriptions],
        vocabulary_size=vocabulary_size if representation != "id" else 0,  # no names, no words
        lowercase=lowercase,
    )
    first_entity = len(SPECIAL_TOKENS) + 1 + len(found.relations)
    num_id_tokens = found.num_trained if representation != "tokens" else 0
    id_tokens = np.full(len(found.entities), NO_TOKEN, np.int32)
    id_tokens[:num_id_tokens] = first_entity + np.arange(num_id_tokens, dtype=np.int32)
    entities = entity_table(
        found.entities,
        [text.name for text in found.entity_texts],
        [text.description for text in found.entity_texts],
        id_tokens=id_tokens,
        tokenizer=tokenizer,
        first_subword=first_entity + num_id_tokens,
        max_name_tokens=max_name_tokens,
        collisions=collisions,
    )
    return GraphVocabulary(
        name=name,
        representation=representation,
        end=end,
        relations=tuple(found.relations),
        relation_texts=tuple(found.relation_texts),
        entities=entities,
        tokenizer=tokenizer,
        collisions=collisions,
        max_name_tokens=max_name_tokens,
    )
