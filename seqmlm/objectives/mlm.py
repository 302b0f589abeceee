"""Masked language modelling: predict the hidden tokens from both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from seqmlm.encoding import EncodingBatch
from seqmlm.objectives.policy_objective import PolicyObjective
from seqmlm.objectives.rows import LossSum, Row, Targets
from seqmlm.randomness import Streams

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
    is_commonly_evaluated = True

    def rows_of_batch(self, batch: EncodingBatch, streams: Streams) -> Row:
        """Return the corrupted sequences with their hidden tokens as targets."""
        masked = self.hide(batch, streams)
        labels = batch.ids[masked.positions]
        targets = Targets(
            masked.positions, labels, self._domain.allowed_at(labels), masking=masked.counts
        )
        return Row.of(batch, masked.ids, {self.name: targets})

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed cross-entropy of the hidden tokens, nats, and their number."""
        return model.token_loss(hidden, batch.targets_for(self.name))
