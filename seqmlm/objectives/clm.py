"""Causal language modelling: predict each token from those before it, or from those after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

import numpy as np
from torch import Tensor

from seqmlm.domain import Domain
from seqmlm.encoding import Encoding, IntArray
from seqmlm.errors import ConfigError
from seqmlm.objectives.rows import Direction, LossSum, Objective, Row, RowVisibility, Targets
from seqmlm.vocabulary import AllowedTokens

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model


class CausalLanguageModelling(Objective):
    """The objective of GPT, in either direction; nothing is corrupted.

    Every maskable token with a neighbour to be predicted from is a target. Special tokens are
    not: they lie outside the domain's range, so the end of a sequence is not modelled.

    Args:
        domain: gives vocabulary and range.
        direction: ``left_to_right``, or ``right_to_left``.

    Raises:
        ConfigError: the direction is neither.
    """

    name = "clm"
    mask_token_rate = 0.0

    def __init__(self, domain: Domain, direction: Direction = "left_to_right") -> None:
        if direction not in get_args(Direction):
            raise ConfigError(
                f"objectives.{self.name}.direction = {direction!r}: it is 'left_to_right' or "
                "'right_to_left'."
            )
        self._direction = direction
        low, high = domain.vocabulary.ranges[domain.name]
        self._allowed = AllowedTokens.of(range(low, high), len(domain.vocabulary))

    @property
    def causal_direction(self) -> Direction:
        """See :attr:`Objective.causal_direction`."""
        return self._direction

    def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
        """Return one row: the true sequence, each token with its successor as target."""
        return [causal_row(encoding, self._direction, name=self.name, allowed=self._allowed)]

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed cross-entropy of the next tokens, nats, and their number."""
        return model.token_loss(hidden, batch.targets_for(self.name))


def causal_row(
    encoding: Encoding, direction: Direction, *, name: str, allowed: AllowedTokens
) -> Row:
    """Make the row of a causal loss.

    Args:
        encoding: the true sequence.
        direction: in which it is read.
        name: key of the targets.
        allowed: what may be predicted.
    """
    order = np.arange(len(encoding), dtype=np.int32)
    step = order if direction == "left_to_right" else order[::-1].copy()
    predicted, seen_from = causal_targets(encoding, direction)
    return Row.of(
        encoding,
        targets={name: Targets(seen_from, encoding.ids[predicted], allowed)},
        visibility=RowVisibility(step, step, np.full_like(step, -1)),
    )


def causal_targets(encoding: Encoding, direction: Direction) -> tuple[IntArray, IntArray]:
    """Return the predicted positions, and for each the last one that may be seen."""
    back = 1 if direction == "left_to_right" else -1
    predicted = np.flatnonzero(encoding.unit_ids >= 0).astype(np.int32)
    seen_from = (predicted - back).astype(np.int32)
    has_neighbour = (seen_from >= 0) & (seen_from < len(encoding))
    return predicted[has_neighbour], seen_from[has_neighbour]
