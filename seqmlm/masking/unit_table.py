"""Tables of units that may stand for one another."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import IntArray
from seqmlm.errors import ConfigError, DataError
from seqmlm.masking.fitting import maskable_tokens
from seqmlm.masking.table_file import positive_number, read_table

if TYPE_CHECKING:
    from seqmlm.domain import Domain

Unit = tuple[int, ...]
SimilarUnits = Iterable[tuple[Unit, Unit, float]]
"""A unit, one that may stand for it, and its weight."""

WHOLE_UNIT_SELECTORS = (
    "unit", "ngram", "span", "block", "scored", "typed", "group", "occurrences",
)  # fmt: skip

COVERAGE_TOKENS = 200_000
"""Tokens of the first training records on which it is counted how often there is no candidate."""

_LEAST_COVERAGE = 0.01


class UnitCorruptor:
    """Marks the corruptors that replace a whole unit by another one.

    Of a part of a unit they can make nothing sensible: the pieces of a word are no words.
    """

    def refuse_parts(
        self, domain: Domain, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]
    ) -> None:
        """Refuse a selector that chooses tokens, where units have several of them.

        Read are records of the first 200,000 tokens, up to the first such unit.

        Raises:
            ConfigError: a unit has several tokens; names the selectors to choose from.
        """
        for ids, units in maskable_tokens(domain, sequences, most_tokens=COVERAGE_TOKENS):
            divided = next((unit for unit in units_of(ids, units) if len(unit) > 1), None)
            if divided is not None:
                tokens = [domain.vocabulary.tokens[id] for id in divided]
                raise ConfigError(
                    "the selector chooses parts of units, such as one of the tokens "
                    f"{', '.join(map(repr, tokens))}, but this corruptor replaces whole units. "
                    f"Choose a selector of whole units: selector = {{ name = 'unit' }}, or "
                    f"{', '.join(map(repr, WHOLE_UNIT_SELECTORS[1:]))}."
                )


@dataclass(frozen=True, slots=True)
class Candidates:
    """What may stand for one unit.

    Args:
        units: all of as many tokens as the unit they may stand for.
        cumulative: running sum of their chances; 1 at the end.
    """

    units: tuple[Unit, ...]
    cumulative: tuple[float, ...]

    def draw(self, uniform: float) -> Unit:
        """Return one of the units; ``uniform`` is drawn from [0, 1)."""
        return self.units[bisect_right(self.cumulative, uniform)]


@dataclass(frozen=True, slots=True)
class UnitTable:
    """Candidates of as many tokens as the unit they may stand for.

    Args:
        candidates: by unit.
        num_unequal: how many were left out because they have another number of tokens.
    """

    candidates: Mapping[Unit, Candidates]
    num_unequal: int

    @classmethod
    def of(cls, similar: SimilarUnits) -> UnitTable:
        """Group candidates by unit; one that is the unit itself is no candidate."""
        grouped: dict[Unit, dict[Unit, float]] = {}
        unequal = 0
        for unit, candidate, weight in similar:
            if len(unit) != len(candidate):
                unequal += 1
            elif unit != candidate:
                weights = grouped.setdefault(unit, {})
                weights[candidate] = weights.get(candidate, 0) + weight
        table = {}
        for unit, weights in grouped.items():
            total = sum(weights.values())
            before_last = accumulate(weight / total for weight in list(weights.values())[:-1])
            # Rounding must not leave a gap below 1.
            table[unit] = Candidates(tuple(weights), (*before_last, 1.0))
        return cls(table, unequal)

    def coverage(
        self, domain: Domain, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]
    ) -> tuple[int, int]:
        """Return how many maskable tokens belong to units with candidates, and how many there are.

        Counted on the first 200,000 tokens, in about a tenth of a second.
        """
        covered = total = 0
        for ids, units in maskable_tokens(domain, sequences, most_tokens=COVERAGE_TOKENS):
            total += len(ids)
            covered += sum(len(unit) for unit in units_of(ids, units) if unit in self.candidates)
        return covered, total


def coverage_level(covered: int, total: int) -> int:
    """Return the level to log a coverage at: a warning below 1 % of the tokens."""
    return logging.WARNING if covered < _LEAST_COVERAGE * total else logging.INFO


def units_of(ids: IntArray, units: IntArray) -> Iterator[Unit]:
    """Yield the ids of each unit; ``units`` int32 ``[n]`` says which ids belong together."""
    borders = np.flatnonzero(np.diff(units, prepend=-1, append=-1)).tolist()
    tokens = ids.tolist()
    for start, end in pairwise(borders):
        yield tuple(tokens[start:end])


def pairs_of_file(
    domain: Domain, path: Path, *, columns: str
) -> Iterator[tuple[Unit, Unit, float]]:
    """Yield the units of lines ``unit TAB candidate [TAB weight]``, in every spelling they have.

    Args:
        domain: reads the words.
        path: of the table.
        columns: what each line should hold, for messages.

    Raises:
        DataError: the file cannot be used, or what stands there is no unit; names the line.
    """
    lines = list(read_table(path, columns=columns))
    for place, fields in lines:
        if len(fields) not in (2, 3):
            raise DataError(f"{place}: {len(fields)} fields; a line is {columns}.")
    words = [word for _, fields in lines for word in fields[:2]]
    spelled = domain.spelled_units(words)
    for number, (place, fields) in enumerate(lines):
        weight = positive_number(fields[2], place) if len(fields) == 3 else 1.0
        for word, spellings in zip(fields, spelled[2 * number :][:2], strict=False):
            if not any(spellings):
                raise DataError(f"{place}: {domain.why_no_unit(word)}")
        for unit, candidate in zip(*spelled[2 * number :][:2], strict=True):
            if unit is not None and candidate is not None:
                yield unit, candidate, weight


def groups_of_file(domain: Domain, path: Path) -> Iterator[tuple[Unit, Unit, float]]:
    """Yield all pairs of words of lines ``label TAB word word ...``, such as sets of synonyms.

    Words that are no unit of the domain, such as those with a hyphen, are passed over.

    Raises:
        DataError: the file cannot be read, or a line has another form.
    """
    columns = "label TAB word word ..."
    groups = []
    for place, fields in read_table(path, columns=columns):
        if len(fields) != 2 or len(fields[1].split()) < 2:
            raise DataError(f"{place}: a line is {columns}, with at least two words.")
        groups.append(fields[1].split())
    words = list(dict.fromkeys(word for group in groups for word in group))
    spelled = dict(zip(words, domain.spelled_units(words), strict=True))
    for group in groups:
        for word, other in permutations(group, 2):
            for unit, candidate in zip(spelled[word], spelled[other], strict=True):
                if unit is not None and candidate is not None:
                    yield unit, candidate, 1.0
