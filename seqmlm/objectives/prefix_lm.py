"""Prefix language modelling: read a context from both sides, then predict the rest in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.objectives.rows import Direction, LossSum, Objective, Row, RowVisibility, Targets
from seqmlm.vocabulary import AllowedTokens

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model


class PrefixLanguageModelling(Objective):
    """The sequence-to-sequence objective of UniLM (arXiv 1905.03197) on one sequence.

    The first predicted token is drawn uniformly among the maskable ones that something precedes.
    What precedes it is the context, which sees itself whole; every later token sees the context
    and the response up to itself.

    Args:
        domain: gives vocabulary and range.
    """

    name = "prefix_lm"
    mask_token_rate = 0.0

    def __init__(self, domain: Domain) -> None:
        low, high = domain.vocabulary.ranges[domain.name]
        self._allowed = AllowedTokens.of(range(low, high), len(domain.vocabulary))

    @property
    def causal_direction(self) -> Direction:
        """See :attr:`Objective.causal_direction`."""
        return "left_to_right"

    def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
        """Return one row: the true sequence, with the tokens of the response as targets."""
        starts = np.flatnonzero(encoding.unit_ids[1:] >= 0) + 1
        prefix = int(generator.choice(starts)) if len(starts) else len(encoding)
        step = np.maximum(np.arange(len(encoding), dtype=np.int32) - (prefix - 1), 0)
        step = step.astype(np.int32)
        predicted = starts[starts >= prefix].astype(np.int32)
        targets = Targets(predicted - np.int32(1), encoding.ids[predicted], self._allowed)
        visibility = RowVisibility(step, step, np.full_like(step, -1))
        return [Row.of(encoding, targets={self.name: targets}, visibility=visibility)]

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed cross-entropy of the response, nats, and its length."""
        return model.token_loss(hidden, batch.targets_for(self.name))
