"""Masked language modelling: predict the hidden tokens from both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.masking.policy import MaskingPolicy
from seqmlm.objectives.rows import LossSum, Objective, Row, Targets
from seqmlm.vocabulary import AllowedTokens

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model


class MaskedLanguageModelling(Objective):
    """BERT's objective (arXiv 1810.04805) under any masking policy.

    The loss is the cross-entropy over all selected positions, kept ones included, normalised
    over the tokens of the domain's own range.

    Args:
        domain: gives vocabulary and range.
        policy: settings of :meth:`MaskingPolicy.from_settings`.
    """

    name = "mlm"

    def __init__(self, domain: Domain, policy: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.policy = MaskingPolicy.from_settings(policy, where=f"objectives.{self.name}.policy")
        self._vocabulary = domain.vocabulary
        self._token_range = domain.vocabulary.ranges[domain.name]
        self._allowed = AllowedTokens.of(range(*self._token_range), len(domain.vocabulary))

    @property
    def mask_token_rate(self) -> float:
        """See :attr:`Objective.mask_token_rate`."""
        return self.policy.mask_token_rate

    def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
        """Return one row: the corrupted sequence with its hidden tokens as targets."""
        masked = self.policy.apply(
            encoding,
            vocabulary=self._vocabulary,
            token_range=self._token_range,
            generator=generator,
        )
        targets = Targets(masked.positions, encoding.ids[masked.positions], self._allowed)
        return [Row.of(encoding, masked.ids, {self.name: targets})]

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed cross-entropy of the hidden tokens, nats, and their number."""
        return model.token_loss(hidden, batch.targets_for(self.name))
