"""What all objectives on a pair of segments share."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

from seqmlm.data.corpus import Corpus, Scope, Segments
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError
from seqmlm.model.output_head import OutputHead, OutputHeadConfig
from seqmlm.objectives.rows import Decisions, LossSum, Objective, Prepared, Row, Targets
from seqmlm.pairs import join_encodings

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.configuration import EncoderConfig
    from seqmlm.model.model import Model

SPECIAL_TOKENS = 3
"""Of a pair: start, and an end after each side."""

_logger = logging.getLogger("seqmlm")

StoredTokens = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two sides of a row and the answer.

    Args:
        first: stored tokens ``[n]``, at least one.
        second: the same.
        label: 0 for the pair as the data have it, 1 for one that was made.
    """

    first: StoredTokens
    second: StoredTokens
    label: int


class PairObjective(Objective):
    """An objective that asks of two segments whether they stand as the data have them.

    A row is start, first, end, second, end, with segment ids 0 and 1. BERT's pooler (a dense layer
    and tanh over the state of the start token) and a linear layer answer; the loss is the binary
    cross-entropy. Nothing is hidden: to train masked language modelling in the same rows, give
    that objective ``rows_of``.

    A record that makes no pair has no row, but keeps the row of its single sequence where another
    objective hides tokens in it.

    Args:
        domain: gives documents, segments and special tokens.

    Raises:
        ConfigError: the records of the domain cannot be parted.
    """

    mask_token_rate = 0.0
    predicts_tokens = False

    within: ClassVar[Scope] = "document"
    """Where the segments of a true pair come from."""

    def __init__(self, domain: Domain) -> None:
        if domain.why_indivisible:
            raise ConfigError(
                f"objective {self.name!r} does not fit domain {domain.registered_name!r}: it parts "
                f"records in two, and {domain.why_indivisible}. Take it out of the objectives."
            )
        self._domain = domain

    @abstractmethod
    def pair(
        self, corpus: Corpus, record: int, generator: np.random.Generator
    ) -> LabelledPair | None:
        """Make the pair of a record; None if the corpus holds nothing to make it from.

        Both sides together have room in ``corpus.max_length`` tokens. The label must be a coin
        that decides nothing else, so that no length gives it away.
        """

    def check(self, corpus: Corpus) -> None:
        """See :meth:`Objective.check`; logs how many records make no pair."""
        if corpus.max_length < SPECIAL_TOKENS + 2:
            raise ConfigError(
                f"data.max_length = {corpus.max_length}: a pair of {self.name} needs "
                f"{SPECIAL_TOKENS} special tokens and one token of each side, "
                f"{SPECIAL_TOKENS + 2} at least."
            )
        num_divisible = len(corpus.divisible(within=self.within))
        if not num_divisible:
            raise ConfigError(
                f"objectives: {self.name} needs two segments of one {self.within}, and none of "
                f"the {len(corpus.records):,} training records has a second one. Give longer "
                "texts, or take the objective out."
            )
        if num_left_out := len(corpus.records) - num_divisible:
            _logger.info(
                "%s: %s of %s training records hold a single segment and make no pair",
                self.name, f"{num_left_out:,}", f"{len(corpus.records):,}",
            )  # fmt: skip

    def prepare(
        self, corpus: Corpus, record: int, encoding: Encoding, generator: np.random.Generator
    ) -> Prepared:
        """See :meth:`Objective.prepare`: the encoded pair, with its label at the start token."""
        pair = self.pair(corpus, record, generator)
        if pair is None:
            return Prepared(encoding)
        uncut = corpus.max_length + self._domain.special_tokens_per_sequence
        first, second = (
            self._domain.assemble(tokens, max_length=uncut) for tokens in (pair.first, pair.second)
        )
        joined = join_encodings(
            first, second, special=self._domain.vocabulary.special, max_length=corpus.max_length
        )
        target = Targets(np.zeros(1, np.int32), np.array([pair.label], np.int32))
        return Prepared(joined, {self.name: target})

    def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
        """Return one row, in which nothing is hidden; its target comes from :meth:`prepare`."""
        return [Row.of(encoding)]

    def build_module(self, encoder: EncoderConfig) -> OutputHead:
        """Return BERT's pooler and the layer of two outputs."""
        if encoder.segments == 1:
            raise ConfigError(
                f"model.segments = 1: {self.name} numbers the two sides of a pair 0 and 1. Set 2, "
                "or 0 to leave segment embeddings out."
            )
        return OutputHead(encoder, OutputHeadConfig(outputs=2, transform="tanh"))

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed cross-entropy of the labels, nats, and the number of pairs."""
        targets = batch.targets_for(self.name)
        scores = model.objective_modules[self.name](hidden[targets.rows]).float()
        loss = F.cross_entropy(scores, targets.labels, reduction="sum")
        return LossSum(loss, loss.new_tensor(float(len(targets.rows))))

    def decisions(self, model: Model, hidden: Tensor, batch: PackedBatch) -> Decisions:
        """Return for each pair how much more likely it was made than found."""
        targets = batch.targets_for(self.name)
        scores = model.objective_modules[self.name](hidden[targets.rows]).float()
        return Decisions(scores[:, 1] - scores[:, 0], targets.labels == 1)


def draw_split(segments: Segments, generator: np.random.Generator) -> int:
    """Draw the number of the segment that begins the second side, from 1."""
    return int(generator.integers(1, len(segments)))


def sides(segments: Segments, split: int, *, room: int) -> tuple[StoredTokens, StoredTokens]:
    """Return whole segments before and behind a split, as many as there is room for.

    Each side may have half of the room, and what the other leaves. It begins and ends with a
    segment, so that the borders do not tell which side came first; a segment that is too long
    alone loses its end.

    Args:
        segments: two or more.
        split: number of the first segment of the second side.
        room: tokens of both sides together, 2 at least.
    """
    bounds = segments.bounds
    here = int(bounds[split])
    before, behind = here, len(segments.tokens) - here
    # Halves of an odd room would differ, always in favour of the same side.
    half = room // 2
    before_room = before if before + behind <= room else max(half, room - behind)
    behind_room = behind if before + behind <= room else max(half, room - before)
    start = int(np.searchsorted(bounds, here - before_room))
    end = int(np.searchsorted(bounds, here + behind_room, side="right")) - 1
    first = segments.tokens[bounds[min(start, split - 1)] : here][:before_room]
    second = segments.tokens[here : bounds[max(end, split + 1)]][:behind_room]
    return first, second
