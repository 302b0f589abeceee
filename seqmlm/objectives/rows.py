"""What an objective makes of a sample: a row as the encoder sees it, with its targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from seqmlm.encoding import Encoding, IntArray
from seqmlm.masking.counts import MaskCounts
from seqmlm.vocabulary import AllowedTokens

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.configuration import EncoderConfig
    from seqmlm.model.model import Model

Direction = Literal["left_to_right", "right_to_left"]


@dataclass(frozen=True, slots=True)
class Targets:
    """What one row must predict for one objective.

    Args:
        positions: int32 ``[m]``, positions in the row whose hidden state is scored.
        labels: int32 ``[m]``, the true ids.
        allowed: what may be predicted there; the whole vocabulary where absent.
        weights: float32 ``[m]``; 1 where absent.
        masking: what a masking policy did to the row; absent where there is none.
    """

    positions: IntArray
    labels: IntArray
    allowed: AllowedTokens | None = None
    weights: npt.NDArray[np.float32] | None = None
    masking: MaskCounts | None = None


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
        visibility: RowVisibility | None = None,
    ) -> Row:
        """Make a row of an encoding, with other ids if given."""
        positions = encoding.position_ids
        if positions is None:
            positions = np.arange(len(encoding), dtype=np.int32)
        return cls(
            encoding.ids if ids is None else ids,
            positions,
            encoding.segment_ids,
            visibility,
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

    name: str
    """Key of its targets in a batch: the registered name, or the label that a run gives it."""

    @property
    def causal_direction(self) -> Direction | None:
        """Which way it predicts without seeing what follows; None if it fills in hidden tokens.

        A run whose objectives are all causal is evaluated by the causal loss of the first, any
        other by masked tokens.
        """
        return None

    @property
    @abstractmethod
    def mask_token_rate(self) -> float:
        """Expected share of maskable tokens that the encoder sees as the mask token.

        Models with token dropout need it; 0 if the objective masks nothing.
        """

    def fit(self, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]) -> None:  # noqa: B027
        """Learn from the training data what :meth:`rows` needs; nothing by default.

        Args:
            sequences: stored tokens of each training record, without special tokens; can be
                iterated any number of times.
        """

    def build_module(self, encoder: EncoderConfig) -> nn.Module | None:
        """Return what the objective trains for itself alone, such as a head; None for nothing.

        It is found again as ``model.objective_modules[self.name]``, is trained and kept in
        checkpoints, and left out of the exported model.
        """
        return None

    def at(self, progress: float) -> Objective:
        """Return the objective at a point of the run; itself unless it changes over the run.

        Args:
            progress: 0 at the first step, 1 at the last.
        """
        return self

    def mask_epoch(self, epoch: int) -> int:
        """Return the epoch whose randomness :meth:`rows` is to use in ``epoch``."""
        return epoch

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
