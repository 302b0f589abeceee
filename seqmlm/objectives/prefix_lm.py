"""Prefix language modelling: read a context from both sides, then predict the rest in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from seqmlm.domain import Domain
from seqmlm.encoding import Encoding, IntArray
from seqmlm.objectives.clm import predictable, range_and
from seqmlm.objectives.rows import (
    Direction,
    LossSum,
    Objective,
    PrefixContext,
    Row,
    RowVisibility,
    Targets,
)
from seqmlm.vocabulary import AllowedTokens

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model


class PrefixLanguageModelling(Objective):
    """The sequence-to-sequence objective of UniLM (arXiv 1905.03197) on one sequence.

    An encoding with a response, such as that of a dialogue, is parted where the response begins:
    this is the objective of PLATO (arXiv 1910.07931, without its latent variable). In any other
    encoding the first predicted token is drawn uniformly among the maskable ones that something
    precedes. What comes before is the context, which sees itself whole; every later token sees
    the context and the response up to itself. The end of the sequence is predicted too, unless it
    is cut from a longer record.

    Args:
        domain: gives vocabulary and range.
    """

    name = "prefix_lm"
    mask_token_rate = 0.0

    def __init__(self, domain: Domain) -> None:
        self._end = domain.vocabulary.special.end
        self._allowed = range_and(domain, self._end)

    @property
    def causal_direction(self) -> Direction:
        """See :attr:`Objective.causal_direction`."""
        return "left_to_right"

    @property
    def prefix_context(self) -> PrefixContext:
        """See :attr:`Objective.prefix_context`."""
        return "bidirectional"

    def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
        """Return one row: the true sequence, with the tokens of the response as targets."""
        start = encoding.response_start
        if start is None:
            starts = np.flatnonzero(encoding.unit_ids[1:] >= 0) + 1
            start = int(generator.choice(starts)) if len(starts) else len(encoding)
        predicted = predictable(encoding, "left_to_right", last=self._end)
        predicted = predicted[predicted >= start]
        return [
            prefix_row(encoding, start, name=self.name, predicted=predicted, allowed=self._allowed)
        ]

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed cross-entropy of the response, nats, and its length."""
        return model.token_loss(hidden, batch.targets_for(self.name))


def prefix_row(
    encoding: Encoding, start: int, *, name: str, predicted: IntArray, allowed: AllowedTokens
) -> Row:
    """Make the row of a context and its response.

    Args:
        encoding: the true sequence.
        start: position of the first token of the response, at least 1.
        name: key of the targets.
        predicted: int32 ``[m]``, positions of the predicted tokens, from ``start`` on.
        allowed: what may be predicted.
    """
    step = np.maximum(np.arange(len(encoding)) - (start - 1), 0).astype(np.int32)
    targets = Targets(predicted - np.int32(1), encoding.ids[predicted], allowed)
    visibility = RowVisibility(step, step, np.full_like(step, -1))
    return Row.of(encoding, targets={name: targets}, visibility=visibility)
