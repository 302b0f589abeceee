"""Queries and candidates as people write them to the numbers of a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from seqmlm.errors import ConfigError, DataError, suggestion
from seqmlm_domains.kg.answers import KNOWN_PARTS, Answer, Numbers
from seqmlm_domains.kg.arguments import strings
from seqmlm_domains.kg.domain import KnowledgeGraphDomain
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.predictions import EntityPrediction, RelationPrediction

Query = tuple[str | None, str | None, str | None]
"""Head, relation and tail; the one that is asked for is None."""

MOST_NAMED: Final = 5
"""Unknown candidates that an error names."""

Prediction = EntityPrediction | RelationPrediction


def missing_part(query: Query) -> Part:
    """Return what a query asks for.

    Raises:
        ConfigError: not exactly one of three parts is None, or another one is no string.
    """
    parts = tuple(query) if isinstance(query, Sequence) and not isinstance(query, str) else ()
    missing = [part for part, given in zip(Part, parts, strict=False) if given is None]
    is_known = all(given is None or isinstance(given, str) for given in parts)
    if len(parts) != 3 or len(missing) != 1 or not is_known:
        raise ConfigError(
            f"query {query!r}: it must be (head, relation, tail), two strings with None for the "
            "one that is asked for."
        )
    return missing[0]


def known_parts(domain: KnowledgeGraphDomain, queries: Sequence[Query], missing: Part) -> Numbers:
    """Return the numbers of what queries for one part give, int64 ``[queries, 2]``.

    Raises:
        DataError: an entity or relation is unknown; names a similar one.
    """
    rows = [
        [domain.number(str(query[part]), part) for part in KNOWN_PARTS[missing]]
        for query in queries
    ]
    return np.array(rows, np.int64).reshape(-1, 2)


def candidate_numbers(
    domain: KnowledgeGraphDomain,
    missing: Part,
    *,
    candidates: Sequence[str] | None,
    candidate_type: str | None,
    types: Mapping[str, frozenset[str]],
) -> Numbers | None:
    """Return the numbers of the candidates, int64, increasing; None for all.

    Raises:
        ConfigError: the candidates are no list of strings, or a type is asked for where relations
            are missing.
        DataError: an identifier or the type is unknown, or no candidate is left.
    """
    if candidates is None and candidate_type is None:
        return None
    numbers = np.arange(len(domain.graph.entities))
    if candidates is not None:
        numbers = np.unique(_numbers(domain, missing, strings("candidates", candidates)))
    if candidate_type is not None:
        if missing == Part.RELATION:
            raise ConfigError(f"candidate_type = {candidate_type!r}: relations have no types.")
        known = set().union(*types.values()) if types else set()
        if candidate_type not in known:
            raise DataError(
                f"There is no entity of type {candidate_type!r}."
                f"{suggestion(candidate_type, known)} Types come from --types FILE, or from "
                "set_entity_types."
            )
        fits = (
            candidate_type in types.get(entity, ()) for entity in domain.graph.entities.identifiers
        )
        of_type = np.fromiter(fits, np.bool_, len(domain.graph.entities))
        numbers = numbers[of_type[numbers]]
    if not len(numbers):
        raise DataError("No candidate is left: the list is empty or none of it is of the type.")
    return numbers.astype(np.int64)


def types_by_entity(types: Mapping[str, Sequence[str]]) -> dict[str, frozenset[str]]:
    """Return the types of entities as sets.

    Raises:
        ConfigError: they are no mapping, or those of an entity no list of strings.
    """
    if not isinstance(types, Mapping):
        raise ConfigError(
            f"types = {types!r}: they must map identifiers to lists, such as {{'oslo': ['city']}}."
        )
    return {entity: frozenset(strings(f"types[{entity!r}]", own)) for entity, own in types.items()}


def _numbers(domain: KnowledgeGraphDomain, part: Part, identifiers: Sequence[str]) -> list[int]:
    """Numbers of candidates; all unknown ones are named at once."""
    graph = domain.graph
    known = graph.relation_numbers if part == Part.RELATION else graph.entities.numbers
    unknown = [identifier for identifier in identifiers if identifier not in known]
    if len(unknown) > 1:
        noun = "relations" if part == Part.RELATION else "entities"
        more = f" and {len(unknown) - MOST_NAMED} more" if len(unknown) > MOST_NAMED else ""
        names = ", ".join(map(repr, unknown[:MOST_NAMED]))
        raise DataError(f"candidates: this graph has no {noun} {names}{more}.")
    return [domain.number(identifier, part) for identifier in identifiers]


def predictions_of(
    domain: KnowledgeGraphDomain, missing: Part, answer: Answer
) -> list[EntityPrediction] | list[RelationPrediction]:
    """Return an answer with the identifiers and names of its candidates."""
    graph = domain.graph
    rows = zip(
        answer.numbers.tolist(), answer.scores.tolist(), answer.probabilities.tolist(), strict=True
    )
    if missing == Part.RELATION:
        return [
            RelationPrediction(graph.relations[i], graph.relation_texts[i].name, score, probability)
            for i, score, probability in rows
        ]
    table = graph.entities
    return [
        EntityPrediction(table.identifiers[i], table.names[i], score, probability)
        for i, score, probability in rows
    ]
