"""A selector, a corruptor and an objective in one file.

Evenly spaced masks; tokens in another order; and sequences that weigh alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmlm.domain import Domain
from seqmlm.encoding import Encoding, EncodingBatch, IntArray
from seqmlm.errors import ConfigError
from seqmlm.masking.corruptors import Corruption
from seqmlm.masking.selectors import Selection, positions_of_units
from seqmlm.objectives.mlm import MaskedLanguageModelling
from seqmlm.objectives.rows import Row
from seqmlm.randomness import Streams


class EvenSelector:
    """Whole units at equal distances, from a random place on."""

    chooses_whole_units = True
    rate_tolerance = 0.0  # on average exactly the rate

    def select(
        self,
        encoding: Encoding,
        costs: npt.NDArray[np.int64],
        budget: int,
        generator: np.random.Generator,
    ) -> Selection:
        number = int(budget * len(costs) / max(1, costs.sum()) + generator.random())
        places = (np.arange(number) + generator.random()) * len(costs) / max(1, number)
        chosen = places.astype(np.int64)
        group_of_unit = np.full(len(costs), -1)
        group_of_unit[chosen] = chosen
        return positions_of_units(encoding, group_of_unit)


class ShuffleCorruptor:
    """The tokens of each group in random order: what stood where is to be found out."""

    mask_share = 0.0

    def corrupt(
        self,
        ids: IntArray,
        selection: Selection,
        *,
        mask_id: int,
        token_range: tuple[int, int],
        uniform: npt.NDArray[np.float64],
    ) -> Corruption:
        in_order = selection.positions[np.argsort(selection.groups, kind="stable")]
        shuffled = selection.positions[np.lexsort((uniform[:, 0], selection.groups))]
        corrupted = ids.copy()
        corrupted[in_order] = ids[shuffled]
        return Corruption(corrupted, selection)


class EvenMaskedModelling(MaskedLanguageModelling):
    """Masked modelling in which long sequences do not outweigh short ones.

    Args:
        exponent: a target weighs 1 / number of targets in its sequence ** exponent.
    """

    name = "even_mlm"
    is_commonly_evaluated = False  # its own held-out loss is another one

    def __init__(
        self,
        domain: Domain,
        policy: Mapping[str, Any] = MappingProxyType({}),
        exponent: float = 1.0,
    ) -> None:
        super().__init__(domain, policy)
        if not 0 <= exponent <= 1:
            raise ConfigError(f"exponent = {exponent!r}: it is from 0 to 1.")
        self._exponent = exponent

    def rows_of_batch(self, batch: EncodingBatch, streams: Streams) -> Row:
        row = super().rows_of_batch(batch, streams)
        targets = row.targets[self.name]
        owners = batch.encoding_of_token[targets.positions]
        weights = batch.count(targets.positions)[owners].astype(np.float32) ** -self._exponent
        return replace(row, targets={self.name: replace(targets, weights=weights)})
