"""What an objective makes of a sample: a row as the encoder sees it, with its targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from seqmlm.encoding import Encoding, IntArray
from seqmlm.vocabulary import AllowedTokens

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model


@dataclass(frozen=True, slots=True)
class Targets:
    """What one row must predict for one objective.

    Args:
        positions: int32 ``[m]``, positions in the row whose hidden state is scored.
        labels: int32 ``[m]``, the true ids.
        allowed: what may be predicted there; the whole vocabulary where absent.
        weights: float32 ``[m]``; 1 where absent.
    """

    positions: IntArray
    labels: IntArray
    allowed: AllowedTokens | None = None
    weights: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class RowVisibility:
    """Who may attend to whom inside one row: int32 ``[n]`` each, see ``seqmlm_kernels``."""

    step: IntArray
    reach: IntArray
    group: IntArray


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence as the encoder sees it.

    Args:
        ids: int32 ``[n]``, corrupted where the objective says so.
        position_ids: int32 ``[n]``.
        segment_ids: int32 ``[n]``.
        visibility: absent where every token sees every other.
        targets: by objective name.
    """

    ids: IntArray
    position_ids: IntArray
    segment_ids: IntArray
    visibility: RowVisibility | None = None
    targets: Mapping[str, Targets] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        encoding: Encoding,
        ids: IntArray | None = None,
        targets: Mapping[str, Targets] | None = None,
    ) -> Row:
        """Make a fully visible row of an encoding, with other ids if given."""
        positions = encoding.position_ids
        if positions is None:
            positions = np.arange(len(encoding), dtype=np.int32)
        return cls(
            encoding.ids if ids is None else ids,
            positions,
            encoding.segment_ids,
            targets={} if targets is None else targets,
        )


@dataclass(frozen=True, slots=True)
class LossSum:
    """A loss as sum and count, so that any grouping of rows gives the same mean.

    Args:
        total: float scalar, nats, differentiable.
        count: float scalar, the weight of the targets in ``total``.
    """

    total: Tensor
    count: Tensor


class Objective(ABC):
    """Turns encodings into rows with targets, and hidden states into a loss.

    The constructor takes the domain and then the objective's own settings as keyword arguments.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def mask_token_rate(self) -> float:
        """Expected share of maskable tokens that the encoder sees as the mask token.

        Models with token dropout need it; 0 if the objective masks nothing.
        """

    @abstractmethod
    def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
        """Make the rows of one sample; the same generator state gives the same rows."""

    def count(self, batch: PackedBatch) -> float:
        """Return the weight of this objective's targets in a batch, as :meth:`loss` counts it.

        Training needs it before the forward pass: a mean over all ranks and micro-batches
        divides by the sum of their counts.
        """
        targets = batch.targets_for(self.name)
        return float(len(targets.rows) if targets.weights is None else targets.weights.sum())

    @abstractmethod
    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Score hidden states float ``[tokens, hidden_size]`` of a batch, nats."""
