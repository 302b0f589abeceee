"""Replacement by a similar unit instead of the mask token."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import IntArray
from seqmlm.errors import ConfigError, DataError
from seqmlm.masking.selectors import Selection
from seqmlm.masking.table_file import positive_number, read_table

if TYPE_CHECKING:
    from seqmlm.domain import Domain

FROM_DOMAIN = "domain"

COVERAGE_RECORDS = 2_000
"""Training records, the first ones, on which it is counted how often there is no candidate."""

_logger = logging.getLogger("seqmlm")

Unit = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Candidates:
    """What may stand for one unit.

    Args:
        ids: int32 ``[k, tokens]``; all candidates have as many tokens as the unit.
        cumulative: float64 ``[k]``; running sum of their chances, 1 at the end.
    """

    ids: IntArray
    cumulative: npt.NDArray[np.float64]

    def draw(self, generator: np.random.Generator) -> IntArray:
        """Return the ids of one candidate, int32 ``[tokens]``."""
        drawn: IntArray = self.ids[
            np.searchsorted(self.cumulative, generator.random(), side="right")
        ]
        return drawn


class SimilarCorruptor:
    """A similar unit, random tokens, or the unit itself; never the mask token.

    MacBERT (arXiv 2004.13922): each unit draws its own fate, also within an n-gram. The paper does
    not say what happens to a similar word of another length; here a candidate has as many tokens
    as the unit it replaces. A unit without a candidate becomes random tokens; :meth:`fit` logs
    how many of the training tokens that concerns.

    Args:
        table: ``domain`` (the table that the domain brings, such as BLOSUM62), or the path of a
            table ``unit TAB candidate [TAB weight]``, each unit written as the domain reads it.
        similar: share of units replaced by a candidate, drawn by weight.
        random: share replaced by tokens drawn uniformly from the sample's own range.
        keep: share that stays as it is; the three add up to 1.

    Raises:
        ConfigError: a share is negative, or they do not add up to 1.
    """

    mask_share = 0.0

    def __init__(
        self,
        table: str = FROM_DOMAIN,
        similar: float = 0.8,
        random: float = 0.1,
        keep: float = 0.1,
    ) -> None:
        shares = (similar, random, keep)
        if not (min(shares) >= 0 and abs(sum(shares) - 1) <= 1e-6):
            raise ConfigError(
                f"similar corruptor: similar = {similar}, random = {random}, keep = {keep}; "
                "they must be 0 or more and add up to 1."
            )
        self._similar_below, self._random_below = similar, similar + random
        self._source = table
        self._table: Mapping[Unit, Candidates] | None = None

    def fit(
        self, domain: Domain, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]
    ) -> None:
        """See :class:`~seqmlm.masking.fitting.Fitted`."""
        if self._source == FROM_DOMAIN:
            similar = domain.similar_units()
        else:
            similar = _read_similar_units(domain, Path(self._source))
        self._table, unequal = _build_table(similar)
        covered, total = _coverage(domain, islice(sequences, COVERAGE_RECORDS), self._table)
        _logger.info(
            "similar units: %s have candidates; %s of %s maskable tokens of the first training "
            "records belong to other units, which get random tokens instead; %s candidates of "
            "another length left out",
            *(f"{count:,}" for count in (len(self._table), total - covered, total, unequal)),
        )

    def corrupt(
        self,
        ids: IntArray,
        selection: Selection,
        *,
        mask_id: int,
        token_range: tuple[int, int],
        generator: np.random.Generator,
    ) -> IntArray:
        """See :meth:`Corruptor.corrupt`; the mask token is not used.

        Raises:
            ConfigError: :meth:`fit` was not called, or the selection does not say its units.
        """
        if self._table is None or selection.units is None:
            raise ConfigError(
                "similar corruptor: call Objective.fit with the training data first, and select "
                "through a masking policy."
            )
        corrupted = ids.copy()
        starts = np.flatnonzero(np.diff(selection.units, prepend=-1))
        for positions in np.split(selection.positions, starts[1:]):
            fate = generator.random()
            if fate >= self._random_below or not len(positions):
                continue
            candidates = self._table.get(tuple(ids[positions].tolist()))
            if fate < self._similar_below and candidates is not None:
                corrupted[positions] = candidates.draw(generator)
            else:
                corrupted[positions] = generator.integers(
                    *token_range, size=len(positions), dtype=np.int32
                )
        return corrupted


def _read_similar_units(domain: Domain, path: Path) -> list[tuple[Unit, Unit, float]]:
    similar = []
    for place, fields in read_table(path, columns="unit TAB candidate [TAB weight]"):
        if len(fields) not in (2, 3):
            raise DataError(
                f"{place}: {len(fields)} fields; a line is unit TAB candidate [TAB weight]."
            )
        weight = positive_number(fields[2], place) if len(fields) == 3 else 1.0
        unit, candidate = (_parse_unit(domain, text, place) for text in fields[:2])
        similar.append((unit, candidate, weight))
    return similar


def _parse_unit(domain: Domain, text: str, place: str) -> Unit:
    try:
        encoding = domain.parse(text)
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
    if encoding.num_units != 1:
        raise DataError(f"{place}: {text!r} is {encoding.num_units} units; it must be one.")
    return tuple(encoding.ids[encoding.unit_ids == 0].tolist())


def _build_table(
    similar: Iterable[tuple[Unit, Unit, float]],
) -> tuple[dict[Unit, Candidates], int]:
    """Group candidates by unit; also the number of those whose length differs."""
    grouped: dict[Unit, list[tuple[Unit, float]]] = {}
    unequal = 0
    for unit, candidate, weight in similar:
        if len(unit) == len(candidate):
            grouped.setdefault(unit, []).append((candidate, weight))
        else:
            unequal += 1
    table = {}
    for unit, weighted in grouped.items():
        cumulative = np.cumsum([weight for _, weight in weighted])
        cumulative /= cumulative[-1]
        table[unit] = Candidates(np.array([ids for ids, _ in weighted], np.int32), cumulative)
    return table, unequal


def _coverage(
    domain: Domain,
    sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]],
    table: Mapping[Unit, Candidates],
) -> tuple[int, int]:
    """Maskable training tokens whose unit has candidates, and all of them."""
    covered = total = 0
    for tokens in sequences:
        encoding = domain.assemble(
            tokens, max_length=len(tokens) + domain.special_tokens_per_sequence
        )
        maskable = encoding.unit_ids >= 0
        ids, units = encoding.ids[maskable], encoding.unit_ids[maskable]
        total += len(ids)
        starts = np.flatnonzero(np.diff(units, prepend=-1))
        covered += sum(
            len(unit) for unit in np.split(ids, starts[1:]) if tuple(unit.tolist()) in table
        )
    return covered, total
