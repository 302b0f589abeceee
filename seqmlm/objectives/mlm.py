"""Masked language modelling: predict the hidden tokens from both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from seqmlm.encoding import Encoding
from seqmlm.objectives.policy_objective import PolicyObjective
from seqmlm.objectives.rows import LossSum, Row, Targets

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model


class MaskedLanguageModelling(PolicyObjective):
    """BERT's objective (arXiv 1810.04805) under any masking policy.

    The loss is the cross-entropy over all selected positions, kept ones included, normalised
    over the tokens of the domain's own range.

    Args:
        domain: gives vocabulary and range.
        policy: settings of :meth:`MaskingPolicy.from_settings`.
    """

    name = "mlm"

    def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
        """Return one row: the corrupted sequence with its hidden tokens as targets."""
        masked = self.hide(encoding, generator)
        targets = Targets(
            masked.positions,
            encoding.ids[masked.positions],
            self._domain.allowed_at(encoding.ids[masked.positions]),
            masking=masked.counts,
        )
        return [Row.of(encoding, masked.ids, {self.name: targets})]

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed cross-entropy of the hidden tokens, nats, and their number."""
        return model.token_loss(hidden, batch.targets_for(self.name))
