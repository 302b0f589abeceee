"""Replacement by a similar unit instead of the mask token."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import IntArray
from seqmlm.errors import ConfigError
from seqmlm.masking.arguments import check_shares, check_text
from seqmlm.masking.corruptors import Corruption, random_ids
from seqmlm.masking.neighbours import distributional_neighbours
from seqmlm.masking.same_type import SameTypeUnits, same_type_units
from seqmlm.masking.selectors import Selection
from seqmlm.masking.unit_table import (
    SimilarUnits,
    Unit,
    UnitCorruptor,
    UnitTable,
    coverage_level,
    groups_of_file,
    pairs_of_file,
    units_of,
)

if TYPE_CHECKING:
    from seqmlm.domain import Domain

FROM_DOMAIN = "domain"
FROM_TYPE = "type"
FROM_CORPUS = "corpus"
TableFormat = Literal["pairs", "groups"]

_logger = logging.getLogger("seqmlm")


class SimilarCorruptor(UnitCorruptor):
    """A similar unit, random tokens, or the unit itself; never the mask token.

    MacBERT (arXiv 2004.13922): each unit draws its own fate, also within an n-gram. The paper does
    not say what happens to a similar word of another length; here a candidate has as many tokens
    as the unit it replaces. A unit without a candidate becomes random tokens, as in the paper;
    :meth:`fit` logs how many of the training tokens that concerns, and the counts of a run hold
    how many it did.

    Args:
        table: ``domain`` (the table that the domain brings, such as BLOSUM62), ``type`` (units
            that are of the same type in the training data, all equally likely, see
            :mod:`~seqmlm.masking.same_type`), ``corpus`` (units that stand in similar surroundings
            there, see :func:`~seqmlm.masking.neighbours.distributional_neighbours`), or the path of
            a file.
        table_format: of that file: ``pairs`` are lines ``unit TAB candidate [TAB weight]``,
            ``groups`` lines ``label TAB word word ...`` whose words may all stand for one another,
            such as the sets of synonyms of WordNet. Words are written as the domain reads them.
        similar: share of units replaced by a candidate, drawn by weight.
        random: share replaced by tokens drawn uniformly from the sample's own range.
        keep: share that stays as it is; the three add up to 1.

    Raises:
        ConfigError: a share is negative, they do not add up to 1, or the format is unknown.
    """

    mask_share = 0.0

    def __init__(
        self,
        table: str = FROM_DOMAIN,
        table_format: TableFormat = "pairs",
        similar: float = 0.8,
        random: float = 0.1,
        keep: float = 0.1,
    ) -> None:
        check_shares("similar corruptor", {"similar": similar, "random": random, "keep": keep})
        check_text(
            "similar corruptor: table", table, "'domain', 'type', 'corpus' or the path of a file"
        )
        if table_format not in get_args(TableFormat):
            raise ConfigError(
                f"similar corruptor: table_format = {table_format!r}; it is 'pairs' or 'groups'."
            )
        self._similar_below, self._random_below = similar, similar + random
        self._source, self._path, self._format = table, Path(table), table_format
        self._table: UnitTable | None = None
        self._same_type: SameTypeUnits | None = None

    def fit(
        self, domain: Domain, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]
    ) -> None:
        """See :class:`~seqmlm.masking.fitting.Fitted`."""
        if self._source == FROM_TYPE:
            self._same_type = same_type_units(domain, sequences)
            sizes = list(map(len, self._same_type.members.values()))
            _logger.info(
                "similar units: %s of %s types and lengths, %s of them alone in theirs: these get "
                "random tokens instead",
                *(f"{count:,}" for count in (sum(sizes), len(sizes), sizes.count(1))),
            )
            return
        self._table = UnitTable.of(self._similar_units(domain, sequences))
        covered, total = self._table.coverage(domain, sequences)
        _logger.log(
            coverage_level(covered, total),
            "similar units: %s have candidates; %s of %s maskable tokens of the first training "
            "records belong to other units, which get random tokens instead; %s candidates of "
            "another length left out",
            *(
                f"{count:,}"
                for count in (
                    len(self._table.candidates),
                    total - covered,
                    total,
                    self._table.num_unequal,
                )
            ),
        )

    def _similar_units(
        self, domain: Domain, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]
    ) -> SimilarUnits:
        if self._source == FROM_DOMAIN:
            return domain.similar_units()
        if self._source == FROM_CORPUS:
            return distributional_neighbours(domain, sequences)
        if self._format == "groups":
            return groups_of_file(domain, self._path)
        return pairs_of_file(domain, self._path, columns="unit TAB candidate [TAB weight]")

    def corrupt(
        self,
        ids: IntArray,
        selection: Selection,
        *,
        mask_id: int,
        token_range: tuple[int, int],
        uniform: npt.NDArray[np.float64],
    ) -> Corruption:
        """See :meth:`Corruptor.corrupt`; the mask token is not used.

        Raises:
            ConfigError: :meth:`fit` was not called, or the selection does not say its units.
        """
        is_fitted = self._table is not None or self._same_type is not None
        if not is_fitted or selection.units is None:
            raise ConfigError(
                "similar corruptor: call Objective.fit with the training data first, and select "
                "through a masking policy."
            )
        positions = selection.positions
        random = random_ids(uniform[:, 1], token_range).tolist()
        fates, draws = uniform.T.tolist()
        new: list[int] = []
        without_candidate = 0
        types = self._types(selection)
        for unit, unit_type in zip(units_of(ids[positions], selection.units), types, strict=False):
            first = len(new)  # the numbers of its first token decide on the unit
            if fates[first] >= self._random_below:
                new += unit
                continue
            candidate = None
            if fates[first] < self._similar_below:
                candidate = self._candidate(unit, unit_type, draws[first])
                without_candidate += len(unit) if candidate is None else 0
            new += random[first : first + len(unit)] if candidate is None else candidate
        corrupted = ids.copy()
        corrupted[positions] = new
        return Corruption(corrupted, selection, without_candidate)

    def _types(self, selection: Selection) -> Iterable[Hashable]:
        """The type of each selected unit; None for all where types do not decide."""
        if self._same_type is None or selection.units is None or selection.batch is None:
            return repeat(None)
        selected = selection.units[np.flatnonzero(np.diff(selection.units, prepend=-1))]
        return self._same_type.types_of(selection.batch, selected)

    def _candidate(self, unit: Unit, unit_type: Hashable, uniform: float) -> Unit | None:
        if self._same_type is not None:
            return self._same_type.draw(unit, unit_type, uniform)
        candidates = None if self._table is None else self._table.candidates.get(unit)
        return None if candidates is None else candidates.draw(uniform)
