"""Causal language modelling: predict each token from those before it, or from those after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

import numpy as np
from torch import Tensor

from seqmlm.domain import Domain
from seqmlm.encoding import Encoding, IntArray
from seqmlm.errors import ConfigError
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


class CausalLanguageModelling(Objective):
    """The objective of GPT, in either direction; nothing is corrupted.

    Every maskable token with a neighbour to be predicted from is a target, and so is the special
    token at which reading ends, unless the sequence is cut from a longer record.

    Args:
        domain: gives vocabulary and range.
        direction: ``left_to_right``, or ``right_to_left``.

    Raises:
        ConfigError: the direction is neither.
    """

    name = "clm"
    mask_token_rate = 0.0
    is_commonly_evaluated = True

    def __init__(self, domain: Domain, direction: Direction = "left_to_right") -> None:
        if direction not in get_args(Direction):
            raise ConfigError(
                f"objectives.{self.name}.direction = {direction!r}: it is 'left_to_right' or "
                "'right_to_left'."
            )
        self._direction = direction
        special = domain.vocabulary.special
        self._last = special.end if direction == "left_to_right" else special.start
        self._allowed = range_and(domain, self._last)

    @property
    def causal_direction(self) -> Direction:
        """See :attr:`Objective.causal_direction`."""
        return self._direction

    @property
    def prefix_context(self) -> PrefixContext:
        """See :attr:`Objective.prefix_context`."""
        return "causal"

    def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
        """Return one row: the true sequence, each token with its successor as target."""
        predicted = predictable(encoding, self._direction, last=self._last)
        return [
            causal_row(
                encoding,
                self._direction,
                name=self.name,
                predicted=predicted,
                allowed=self._allowed,
            )
        ]

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed cross-entropy of the next tokens, nats, and their number."""
        return model.token_loss(hidden, batch.targets_for(self.name))


def range_and(domain: Domain, special: int) -> AllowedTokens:
    """Return the set of the tokens in a domain's range and one special token."""
    low, high = domain.vocabulary.ranges[domain.name]
    return AllowedTokens.of([*range(low, high), special], len(domain.vocabulary))


def predictable(encoding: Encoding, direction: Direction, *, last: int | None = None) -> IntArray:
    """Return the positions, int32 ``[m]``, of all tokens that a causal loss can predict.

    Args:
        encoding: the true sequence.
        direction: in which it is read.
        last: id of the special token at which reading ends, to be predicted too if it is there
            and the sequence is a whole record.
    """
    is_target = encoding.unit_ids >= 0
    end, first = (-1, 0) if direction == "left_to_right" else (0, -1)
    if last is not None and not encoding.is_cut:
        is_target[end] |= encoding.ids[end] == last
    is_target[first] = False  # nothing comes before it
    return np.flatnonzero(is_target).astype(np.int32)


def causal_row(
    encoding: Encoding,
    direction: Direction,
    *,
    name: str,
    predicted: IntArray,
    allowed: AllowedTokens,
) -> Row:
    """Make the row of a causal loss.

    Args:
        encoding: the true sequence.
        direction: in which it is read.
        name: key of the targets.
        predicted: int32 ``[m]``, positions of the predicted tokens; not the first one read.
        allowed: what may be predicted.
    """
    order = np.arange(len(encoding), dtype=np.int32)
    step = order if direction == "left_to_right" else order[::-1].copy()
    back = np.int32(1 if direction == "left_to_right" else -1)
    return Row.of(
        encoding,
        targets={name: Targets(predicted - back, encoding.ids[predicted], allowed)},
        visibility=RowVisibility(step, step, np.full_like(step, -1)),
    )
