"""What the names of entities can carry: who shares one, and how long they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from seqmlm_domains.kg.domain import KnowledgeGraphDomain
from seqmlm_domains.kg.entities import NO_TOKEN, entity_table
from seqmlm_domains.kg.graph import spoken
from seqmlm_domains.kg.names import NameTokenizer
from seqmlm_domains.kg.triples import NameAndDescription

EXAMPLES: Final = 3
"""Shared and long names that are shown."""


@dataclass(frozen=True)
class NameAudit:
    """Names of the entities that triples mention.

    Args:
        named: entities that a file gives a name; the others go by their identifier.
        described: entities that a file gives a description.
        text_only: identifiers with a text that no triple mentions.
        sharing: entities whose name, as given, another one has.
        most_shared: such names and how many entities have them, the commonest first.
        sharing_when_disambiguated: entities whose name tokens another one still has after words
            of descriptions and identifiers were added.
        mean_tokens: sub-words of a name.
        longest_tokens: sub-words of the longest name.
        longest: the longest names, the longest first.
        max_name_tokens: the domain's default limit.
        cut: entities with a longer name.
    """

    named: int
    described: int
    text_only: int
    sharing: int
    most_shared: list[tuple[str, int]]
    sharing_when_disambiguated: int
    mean_tokens: float
    longest_tokens: int
    longest: list[str]
    max_name_tokens: int
    cut: int


def audit_names(identifiers: Sequence[str], texts: Mapping[str, NameAndDescription]) -> NameAudit:
    """Learn sub-words from names and descriptions, as the domain does by default, and count.

    Args:
        identifiers: of the entities that triples mention, all different, at least one.
        texts: by identifier; perhaps of other entities too.
    """
    options = KnowledgeGraphDomain().options
    nothing = NameAndDescription("")
    given = [texts.get(identifier, nothing) for identifier in identifiers]
    names = [text.name or spoken(key) for key, text in zip(identifiers, given, strict=True)]
    descriptions = [text.description for text in given]
    tokenizer = NameTokenizer.train(
        [*names, *filter(None, descriptions)],
        vocabulary_size=options["vocabulary_size"],
        lowercase=options["lowercase"],
    )
    limit: int = options["max_name_tokens"]
    table = entity_table(
        identifiers,
        names,
        descriptions,
        id_tokens=np.full(len(names), NO_TOKEN, np.int32),
        tokenizer=tokenizer,
        first_subword=0,
        max_name_tokens=limit,
        collisions="disambiguate",
    )
    lengths = np.array([len(ids) for ids in tokenizer.encode(names)], np.int64)
    shared = [(name, count) for name, count in Counter(names).most_common(EXAMPLES) if count > 1]
    return NameAudit(
        named=sum(bool(text.name) for text in given),
        described=sum(bool(text.description) for text in given),
        text_only=len(texts.keys() - set(identifiers)),
        sharing=table.num_collisions,
        most_shared=shared,
        sharing_when_disambiguated=table.num_ties,
        mean_tokens=float(lengths.mean()),
        longest_tokens=int(lengths.max()),
        longest=[names[number] for number in np.argsort(-lengths, kind="stable")[:EXAMPLES]],
        max_name_tokens=limit,
        cut=int((lengths > limit).sum()),
    )
