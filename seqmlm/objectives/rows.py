"""What an objective makes of a sample: a row as the encoder sees it, with its targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from seqmlm.encoding import Encoding, EncodingBatch, IntArray
from seqmlm.masking.counts import MaskCounts
from seqmlm.randomness import Streams
from seqmlm.vocabulary import AllowedPerTarget, AllowedTokens

if TYPE_CHECKING:
    from seqmlm.data.corpus import Corpus
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.configuration import EncoderConfig
    from seqmlm.model.model import Model

Direction = Literal["left_to_right", "right_to_left"]

PrefixContext = Literal["causal", "bidirectional"]
"""How a text is read that is to be continued: each token sees those before it, or all of it."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What one row, or the rows of a batch, must predict for one objective.

    Args:
        positions: int32 ``[m]``, positions in the row whose hidden state is scored.
        labels: int32 ``[m]``, the true ids.
        allowed: what may be predicted, everywhere or at each target; the whole vocabulary where
            absent.
        weights: float32 ``[m]``; 1 where absent.
        masking: what a masking policy did to the row; absent where there is none.
        draws: float64 ``[m]``, uniform in [0, 1), for an objective that samples at its targets;
            drawn with the row, so that the sample depends on nothing else in the batch.
        values: float32 ``[m]``, the true numbers, where a number is predicted and not an id.
    """

    positions: IntArray
    labels: IntArray
    allowed: AllowedTokens | AllowedPerTarget | None = None
    weights: npt.NDArray[np.float32] | None = None
    masking: MaskCounts | None = None
    draws: npt.NDArray[np.float64] | None = None
    values: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class RowVisibility:
    """Who may attend to whom inside one row: int32 ``[n]`` each, see ``seqmlm_kernels``."""

    step: IntArray
    reach: IntArray
    group: IntArray


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence as the encoder sees it, or several one after the other.

    Args:
        ids: int32 ``[n]``, corrupted where the objective says so.
        position_ids: int32 ``[n]``.
        segment_ids: int32 ``[n]``.
        visibility: absent where every token sees every other.
        targets: by objective name.
        role_ids: int32 ``[n]``; absent where no one speaks, and for the encoder then all 0.
        lengths: int64 ``[sequences]``, tokens of each; absent where there is one. Tokens see those
            of their own sequence alone.
    """

    ids: IntArray
    position_ids: IntArray
    segment_ids: IntArray
    visibility: RowVisibility | None = None
    targets: Mapping[str, Targets] = field(default_factory=dict)
    role_ids: IntArray | None = None
    lengths: npt.NDArray[np.int64] | None = None

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each sequence begins, int64 ``[sequences]``."""
        if self.lengths is None:
            return np.zeros(1, np.int64)
        starts: npt.NDArray[np.int64] = np.cumsum(self.lengths) - self.lengths
        return starts

    @classmethod
    def of(
        cls,
        encoding: Encoding | EncodingBatch,
        ids: IntArray | None = None,
        targets: Mapping[str, Targets] | None = None,
        visibility: RowVisibility | None = None,
    ) -> Row:
        """Make a row of an encoding, or of each of a batch, with other ids if given."""
        positions = encoding.position_ids
        if positions is None:
            positions = np.arange(len(encoding.ids), dtype=np.int32)
        return cls(
            encoding.ids if ids is None else ids,
            positions,
            encoding.segment_ids,
            visibility,
            targets={} if targets is None else targets,
            role_ids=encoding.role_ids,
            lengths=encoding.lengths if isinstance(encoding, EncodingBatch) else None,
        )


def with_targets(rows: Sequence[Row], targets: Mapping[str, Targets]) -> list[Row]:
    """Return rows with further targets; those that then have none are left out."""
    if not targets:
        return [row for row in rows if row.targets]
    return [replace(row, targets={**row.targets, **targets}) for row in rows]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the rows of a sample are made from.

    Args:
        encoding: one sequence, or a pair.
        targets: of the whole, whatever is hidden in it, such as the label of a pair; positions
            and labels by objective name.
    """

    encoding: Encoding
    targets: Mapping[str, Targets] = field(default_factory=dict)


def joined_targets(
    samples: Sequence[Prepared], starts: npt.NDArray[np.int64]
) -> dict[str, Targets]:
    """Return the targets of samples whose sequences follow one another in one row.

    Args:
        samples: their targets have positions and labels, and nothing else.
        starts: int64 ``[samples]``, where each sequence begins.
    """
    names = dict.fromkeys(name for sample in samples for name in sample.targets)
    joined = {}
    for name in names:
        present = [
            (sample.targets[name], start)
            for sample, start in zip(samples, starts.astype(np.int32), strict=True)
            if name in sample.targets
        ]
        joined[name] = Targets(
            np.concatenate([targets.positions + start for targets, start in present]),
            np.concatenate([targets.labels for targets, _ in present]),
        )
    return joined


@dataclass(frozen=True, slots=True)
class LossSum:
    """A loss as sum and count, so that any grouping of rows gives the same mean.

    Args:
        total: float scalar, nats, differentiable; ``[terms]`` of an objective with several.
        count: float, shaped like ``total``: the weight of the targets in it.
    """

    total: Tensor
    count: Tensor


@dataclass(frozen=True, slots=True)
class Decisions:
    """What an objective answers to yes-or-no questions.

    Args:
        scores: float ``[m]``, logits of yes.
        labels: bool ``[m]``, the truth.
    """

    scores: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class TrainedObjective:
    """What a saved model tells of an objective that it was trained with.

    Args:
        name: label of the objective in the run.
        causal_direction: see :attr:`Objective.causal_direction`.
        prefix_context: see :attr:`Objective.prefix_context`.
        predicts_tokens: see :attr:`Objective.predicts_tokens`.
    """

    name: str
    causal_direction: Direction | None
    prefix_context: PrefixContext | None
    predicts_tokens: bool = True

    @classmethod
    def of(cls, objective: Objective) -> TrainedObjective:
        """Describe an objective."""
        return cls(
            objective.name,
            objective.causal_direction,
            objective.prefix_context,
            objective.predicts_tokens,
        )


class Objective(ABC):
    """Turns encodings into rows with targets, and hidden states into a loss.

    The constructor takes the domain and then the objective's own settings as keyword arguments.
    """

    name: str
    """Key of its targets in a batch: the registered name, or the label that a run gives it."""

    rows_of: str = ""
    """Name of the objective whose rows it hides tokens in; it makes its own if empty."""

    @property
    def causal_direction(self) -> Direction | None:
        """Which way it predicts without seeing what follows; None if it fills in hidden tokens.

        A run whose objectives are all causal is evaluated by the causal loss of the first, any
        other by masked tokens.
        """
        return None

    @property
    def prefix_context(self) -> PrefixContext | None:
        """How it reads what it continues token by token; None if it continues nothing."""
        return None

    @property
    def predicts_tokens(self) -> bool:
        """Whether it trains the token head on the encoder's states.

        A run without such an objective is not evaluated by predicted tokens, and its model does
        not fill in any.
        """
        return True

    is_commonly_evaluated: bool = False
    """Whether the evaluation of predicted tokens, which is the same for all runs, stands for its
    held-out loss too, if no other objective of the run predicts tokens."""

    @property
    def terms(self) -> Mapping[str, float]:
        """Weights of the means that its loss adds up, by the key of their targets.

        One of weight 1 by default. ELECTRA's loss is a mean over hidden tokens plus 50 times one
        over all tokens.
        """
        return {self.name: 1.0}

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

    def check(self, corpus: Corpus) -> None:  # noqa: B027
        """Refuse training data of which :meth:`prepare` can make nothing; none by default.

        Raises:
            ConfigError: says what the data lack.
        """

    def prepare(
        self, corpus: Corpus, record: int, encoding: Encoding, generator: np.random.Generator
    ) -> Prepared:
        """Choose what the rows of a record are made from: by default its encoding.

        Args:
            corpus: what may be read beside the record; of training, or held out.
            record: its number.
            encoding: its own, cut to the longest that is allowed.
            generator: the only source of randomness.
        """
        return Prepared(encoding)

    def build_module(self, encoder: EncoderConfig) -> nn.Module | None:
        """Return what the objective trains for itself alone, such as a head; None for nothing.

        It is found again as ``model.objective_modules[self.name]``, is trained and kept in
        checkpoints, and left out of the exported model; a file beside it is for runs that start
        from it.
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

    def count(self, batch: PackedBatch, term: str | None = None) -> float:
        """Return the weight of this objective's targets in a batch, as :meth:`loss` counts it.

        Training needs it before the forward pass: a mean over all ranks and micro-batches
        divides by the sum of their counts.

        Args:
            batch: of any rows.
            term: one of :attr:`terms`; that of the objective's own name if absent.
        """
        targets = batch.targets_for(self.name if term is None else term)
        return float(len(targets.rows) if targets.weights is None else targets.weights.sum())

    def complete(self, model: Model, batch: PackedBatch) -> PackedBatch:
        """Return the batch as the encoder is to see it, where that takes a model to tell.

        The batch itself, unless a model of the objective's own writes ids into its rows. What
        :meth:`loss` needs of that goes with the targets: nothing is kept between calls.
        """
        return batch

    @abstractmethod
    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Score hidden states float ``[tokens, hidden_size]`` of a batch, nats."""

    def decisions(self, model: Model, hidden: Tensor, batch: PackedBatch) -> Decisions | None:
        """Return the answers to judge on held-out records; None if it asks no such questions."""
        return None


class BatchObjective(Objective):
    """An objective that makes the rows of many samples at once, which is faster.

    Its samples are the encodings of the records: :meth:`prepare` plays no part.

    Raises:
        TypeError: a subclass overrides what training never calls.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in ("rows", "prepare"):
            if name in vars(cls):
                raise TypeError(
                    f"{cls.__name__} overrides {name}(), which training does not call of an "
                    "objective that makes many rows at once. Override rows_of_batch(), or derive "
                    "from Objective."
                )

    def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
        """See :meth:`Objective.rows`."""
        return [self.rows_of_batch(EncodingBatch([encoding]), Streams.of_one(generator))]

    @abstractmethod
    def rows_of_batch(self, batch: EncodingBatch, streams: Streams) -> Row:
        """Make the rows of several samples, all in one.

        Args:
            batch: the encodings.
            streams: the only source of randomness: the row of a sample depends on its own stream
                and on nothing else in the batch.
        """
