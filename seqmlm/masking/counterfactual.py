"""Swaps of words by a lexicon: the sequence as it might have been."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import IntArray
from seqmlm.errors import ConfigError, DataError
from seqmlm.masking.arguments import check_text
from seqmlm.masking.corruptors import Corruption
from seqmlm.masking.selectors import Selection
from seqmlm.masking.unit_table import (
    SimilarUnits,
    UnitCorruptor,
    UnitTable,
    coverage_level,
    pairs_of_file,
    units_of,
)

if TYPE_CHECKING:
    from seqmlm.domain import Domain

_logger = logging.getLogger("seqmlm")


class CounterfactualCorruptor(UnitCorruptor):
    """Swaps the selected units that a lexicon pairs, such as he and she; leaves the others alone.

    What was swapped is what is to be predicted: the selected units that the lexicon does not have
    are neither changed nor targets. With selector ``unit`` the rate is thus the share of the
    lexicon's words that are swapped, and may be 1. Both directions of a pair hold; a word in
    several pairs draws one of its partners by weight. Words with different numbers of tokens
    cannot be swapped: such pairs are left out and counted in the log.

    The swap is that of counterfactual data augmentation (Zhao et al., arXiv 1804.06876). Deviation:
    there the model trains on the swapped text as it is, here the true words are restored.

    Args:
        lexicon: path of a table ``word TAB partner [TAB weight]``, each word written as the domain
            reads it; the weight matters for words in several pairs.
    """

    mask_share = 0.0

    def __init__(self, lexicon: str) -> None:
        check_text("counterfactual corruptor: lexicon", lexicon, "the path of a table")
        self._path = Path(lexicon)
        self._table: UnitTable | None = None

    def fit(
        self, domain: Domain, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]
    ) -> None:
        """See :class:`~seqmlm.masking.fitting.Fitted`.

        Raises:
            DataError: the lexicon cannot be used, or no pair of it can be swapped.
        """
        pairs = pairs_of_file(domain, self._path, columns="word TAB partner [TAB weight]")
        self._table = UnitTable.of(_both_directions(pairs))
        if not self._table.candidates:
            raise DataError(
                f"{self._path}: no pair can be swapped, because the two words of each have "
                "different numbers of tokens or are the same. Give words that the tokenizer "
                "divides alike, or a larger domain.vocabulary_size."
            )
        covered, total = self._table.coverage(domain, sequences)
        _logger.log(
            coverage_level(covered, total),
            "counterfactual lexicon %s: %s units can be swapped; %s of %s maskable tokens of the "
            "first training records belong to them; %s pairs of spellings with different numbers "
            "of tokens left out",
            self._path,
            *(
                f"{count:,}"
                for count in (
                    len(self._table.candidates),
                    covered,
                    total,
                    self._table.num_unequal // 2,
                )
            ),
        )

    def corrupt(
        self,
        ids: IntArray,
        selection: Selection,
        *,
        mask_id: int,
        token_range: tuple[int, int],
        uniform: npt.NDArray[np.float64],
    ) -> Corruption:
        """See :meth:`Corruptor.corrupt`; mask token and range play no part.

        Raises:
            ConfigError: :meth:`fit` was not called, or the selection does not say its units.
        """
        if self._table is None or selection.units is None:
            raise ConfigError(
                "counterfactual corruptor: call Objective.fit with the training data first, and "
                "select through a masking policy."
            )
        draws = uniform[:, 0].tolist()
        new: list[int] = []
        swapped: list[bool] = []
        for unit in units_of(ids[selection.positions], selection.units):
            candidates = self._table.candidates.get(unit)
            new += unit if candidates is None else candidates.draw(draws[len(new)])
            swapped += [candidates is not None] * len(unit)
        corrupted = ids.copy()
        corrupted[selection.positions] = new
        chosen = np.array(swapped, np.bool_)
        return Corruption(
            corrupted, Selection(selection.positions[chosen], selection.groups[chosen])
        )


def _both_directions(pairs: SimilarUnits) -> SimilarUnits:
    for unit, partner, weight in pairs:
        yield unit, partner, weight
        yield partner, unit, weight
