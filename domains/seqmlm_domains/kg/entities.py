"""The entities of a graph: identifier, name, description, and the tokens that stand for them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from seqmlm_domains.kg.names import NameTokenizer, RaggedTokens

Collisions = Literal["disambiguate", "tie"]

NO_TOKEN = -1

Name = TypeVar("Name", str, tuple[int, ...])

_WORDS_OF_DESCRIPTION = 4  # that tell entities of one name apart


@dataclass(frozen=True)
class EntityTable:
    """Entities in the order of their numbers.

    Args:
        identifiers: as in the triples; all different.
        names: what people call them; the identifier, with ``_`` as spaces, where none is given.
        descriptions: empty where none is given.
        id_tokens: int32 ``[entities]``, the vocabulary id of each entity's own token; -1 for an
            entity that training did not know, and everywhere if entities have no such token.
        name_tokens: vocabulary ids of the names; disambiguated.
        description_tokens: vocabulary ids of the descriptions.
        num_collisions: entities whose name, as given, another entity has too; alike as the
            tokenizer reads them, so perhaps whatever the case.
        num_ties: entities whose name tokens another entity still has.
    """

    identifiers: tuple[str, ...]
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    id_tokens: npt.NDArray[np.int32]
    name_tokens: RaggedTokens
    description_tokens: RaggedTokens
    num_collisions: int
    num_ties: int

    def __len__(self) -> int:
        return len(self.identifiers)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of each identifier."""
        return {identifier: number for number, identifier in enumerate(self.identifiers)}

    def joined(self, other: EntityTable, *, tokenizer: NameTokenizer) -> EntityTable:
        """Return these entities and then those of ``other``, whose numbers follow.

        Args:
            other: entities of other identifiers.
            tokenizer: of names.
        """
        names = self.names + other.names
        name_tokens = self.name_tokens.joined(other.name_tokens)
        spelled = [tuple(name_tokens[number].tolist()) for number in range(len(names))]
        return replace(
            self,
            identifiers=self.identifiers + other.identifiers,
            names=names,
            descriptions=self.descriptions + other.descriptions,
            id_tokens=np.concatenate([self.id_tokens, other.id_tokens]),
            name_tokens=name_tokens,
            description_tokens=self.description_tokens.joined(other.description_tokens),
            num_collisions=sum(map(len, _shared(tokenizer.normalised(names)))),
            num_ties=sum(map(len, _shared(spelled))),
        )


def entity_table(
    identifiers: Sequence[str],
    names: Sequence[str],
    descriptions: Sequence[str],
    *,
    id_tokens: npt.NDArray[np.int32],
    tokenizer: NameTokenizer,
    first_subword: int,
    max_name_tokens: int,
    collisions: Collisions,
    others: EntityTable | None = None,
) -> EntityTable:
    """Tokenise entities and tell those of one name apart.

    With ``disambiguate`` the first words of the description are added to a name that several
    entities have, and the identifier where that is not enough; ``tie`` leaves names as they are,
    as MLMLM's own data does, so that such entities always score the same. Names are the same if
    their tokens are: case may be dropped, and what is too long.

    Args:
        identifiers: all different.
        names: one per entity.
        descriptions: one per entity, perhaps empty.
        id_tokens: see :class:`EntityTable`.
        tokenizer: of names.
        first_subword: vocabulary id of the tokenizer's sub-word 0.
        max_name_tokens: longer names are cut at the end.
        collisions: what to do about equal names.
        others: entities of the same graph, whose tokens stay as they are.
    """
    distinct = list(names)
    num_collisions = sum(map(len, _shared(tokenizer.normalised(names))))
    if collisions == "disambiguate":
        taken = frozenset(tokenizer.normalised(others.names)) if others else frozenset()
        for additions in (list(map(_first_words, descriptions)), identifiers):
            _append(distinct, tokenizer.normalised(distinct), additions, taken)
    tokens = [tuple(ids[:max_name_tokens]) for ids in tokenizer.encode(distinct)]
    if collisions == "disambiguate":
        used = _spelled(others, first_subword) if others else frozenset()
        _tell_apart(tokens, identifiers, tokenizer, room=max_name_tokens, taken=used)
    return EntityTable(
        tuple(identifiers),
        tuple(names),
        tuple(descriptions),
        np.asarray(id_tokens, np.int32),
        RaggedTokens.of([[token + first_subword for token in ids] for ids in tokens]),
        RaggedTokens.of(
            [[token + first_subword for token in ids] for ids in tokenizer.encode(descriptions)]
        ),
        num_collisions,
        sum(map(len, _shared(tokens))),
    )


def _append(
    names: list[str], keys: Sequence[str], additions: Sequence[str], taken: Collection[str]
) -> None:
    """Add to each name whose key is not the only one of its kind what is to tell it apart."""
    for group in _shared(keys, taken):
        for number in group:
            if additions[number] and additions[number] != names[number]:
                names[number] = f"{names[number]} ({additions[number]})"


def _tell_apart(
    tokens: list[tuple[int, ...]],
    identifiers: Sequence[str],
    tokenizer: NameTokenizer,
    *,
    room: int,
    taken: Collection[tuple[int, ...]],
) -> None:
    """End names that were cut before they differ with their identifier, else with a number."""

    def ended(number: int, text: str) -> tuple[int, ...]:
        own = tokenizer.encode([text])[0][-room // 2 :]
        return (*tokens[number][: room - len(own)], *own)

    for group in _shared(tokens, taken):
        for number in group:
            tokens[number] = ended(number, identifiers[number])
    used = {*taken, *tokens}
    for group in _shared(tokens, taken):
        is_first_free = tokens[group[0]] not in taken
        for number in group[int(is_first_free) :]:
            texts = map(str, itertools.count(2))
            tokens[number] = next(
                name for text in texts if (name := ended(number, text)) not in used
            )
            used.add(tokens[number])


def _spelled(table: EntityTable, first_subword: int) -> frozenset[tuple[int, ...]]:
    """The names of entities as sub-words."""
    names = table.name_tokens
    return frozenset(tuple((names[i] - first_subword).tolist()) for i in range(len(table)))


def _shared(names: Sequence[Name], taken: Collection[Name] = frozenset()) -> list[list[int]]:
    """Numbers of the entities that share a name with another or with ``taken``, by name."""
    groups: defaultdict[Name, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        groups[name].append(number)
    return [group for name, group in groups.items() if len(group) > 1 or name in taken]


def _first_words(description: str) -> str:
    return " ".join(description.split()[:_WORDS_OF_DESCRIPTION])
