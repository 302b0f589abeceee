"""What all objectives with a masking policy share."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from seqmlm.domain import Domain
from seqmlm.encoding import EncodingBatch
from seqmlm.masking.policy import Masked, MaskingPolicy
from seqmlm.objectives.rows import BatchObjective
from seqmlm.randomness import Streams


class PolicyObjective(BatchObjective):
    """An objective that hides tokens by a policy and predicts within the domain's range.

    Args:
        domain: gives vocabulary and range.
        policy: settings of :meth:`MaskingPolicy.from_settings`, over :attr:`default_policy`.
    """

    default_policy: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, domain: Domain, policy: Mapping[str, Any] = MappingProxyType({})) -> None:
        if isinstance(policy, Mapping):
            policy = {**self.default_policy, **policy}
        self.policy = MaskingPolicy.from_settings(policy, where="policy")
        self._domain = domain
        self._vocabulary = domain.vocabulary
        self._token_range = domain.vocabulary.ranges[domain.name]

    @property
    def mask_token_rate(self) -> float:
        """See :attr:`Objective.mask_token_rate`."""
        return self.policy.mask_token_rate

    def fit(self, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]) -> None:
        """See :meth:`Objective.fit`."""
        self.policy.fit(self._domain, sequences)

    def at(self, progress: float) -> Self:
        """See :meth:`Objective.at`: the policy's rate may follow a schedule."""
        policy = self.policy.at(progress)
        if policy is self.policy:
            return self
        moved = copy.copy(self)
        moved.policy = policy
        return moved

    def mask_epoch(self, epoch: int) -> int:
        """See :meth:`Objective.mask_epoch`: static masks are those of an earlier epoch."""
        return self.policy.mask_epoch(epoch)

    def hide(self, batch: EncodingBatch, streams: Streams) -> Masked:
        """Apply the policy to all encodings of a batch."""
        return self.policy.apply_to_batch(
            batch,
            vocabulary=self._vocabulary,
            token_range=self._token_range,
            streams=streams,
        )
