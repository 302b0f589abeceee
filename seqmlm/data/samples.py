"""Records to packed batches: what a run asks for and every rank builds for itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmlm.data.corpus import Corpus
from seqmlm.data.packing import PackedBatch, pack
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.objectives.clm import causal_row, predictable
from seqmlm.objectives.prefix_lm import prefix_row
from seqmlm.objectives.rows import (
    Direction,
    Objective,
    PrefixContext,
    Row,
    Targets,
    with_targets,
)
from seqmlm.objectives.schedule import Schedule, Together
from seqmlm.randomness import Purpose, stream
from seqmlm.vocabulary import AllowedTokens

EVALUATION = "evaluation"
EVALUATION_SEED = 0


@dataclass(frozen=True)
class SampleBuilder:
    """Makes training batches; each sample depends on (seed, epoch, record, objective) alone.

    Args:
        domain: assembles encodings from stored tokens.
        store: the corpus.
        objectives: each adds its rows to the batch, or hides tokens in those of another.
        max_length: tokens per row, special tokens included.
        seed: of the run.
        schedule: which objectives train on which sample; all of them on all if absent.
        records: int64, all that training may read, increasing; the whole store if absent.
    """

    domain: Domain
    store: TokenStore
    objectives: Sequence[Objective]
    max_length: int
    seed: int
    schedule: Schedule | None = None
    records: npt.NDArray[np.int64] | None = None

    @cached_property
    def corpus(self) -> Corpus:
        """The records of training with their documents."""
        records = np.flatnonzero(self.store.lengths) if self.records is None else self.records
        return Corpus(self.domain, self.store, records, self.max_length)

    def batch(
        self, epoch: int, records: npt.NDArray[np.int64], progress: float = 0.0
    ) -> PackedBatch:
        """Return the rows of the active objectives for some records, packed in order.

        Args:
            epoch: pass over the data.
            records: int64, record numbers.
            progress: 0 at the run's first step, 1 at its last.
        """
        objectives = [objective.at(progress) for objective in self.objectives]
        return pack(
            [row for record in records.tolist() for row in self._rows(objectives, epoch, record)]
        )

    def _rows(self, objectives: Sequence[Objective], epoch: int, record: int) -> list[Row]:
        schedule = self.schedule or Together(len(objectives))
        tokens = self.store[record]
        encoding = self.domain.assemble(
            tokens,
            max_length=self.max_length,
            generator=stream(self.seed, Purpose.WINDOW, epoch=epoch, sample=record),
        )
        is_long = len(tokens) + self.domain.special_tokens_per_sequence > self.max_length
        if is_long and encoding.response_start is None:  # a cut response shows no end token
            encoding = replace(encoding, is_cut=True)
        rows: list[Row] = []
        for index in schedule.active(seed=self.seed, epoch=epoch, record=record):
            if not objectives[index].rows_of:
                rows += self._rows_from(objectives, index, epoch, record, encoding)
        return rows

    def _rows_from(
        self,
        objectives: Sequence[Objective],
        index: int,
        epoch: int,
        record: int,
        encoding: Encoding,
    ) -> list[Row]:
        """Rows of one objective, with hidden what another one hides in them."""
        hides = self._hides_in.get(objectives[index].name, index)
        mask_epoch = objectives[hides].mask_epoch(epoch)

        def generator_of(number: int) -> np.random.Generator:
            return stream(
                self.seed, Purpose.OBJECTIVE, epoch=mask_epoch, sample=record, index=number
            )

        generator = generator_of(index)
        prepared = objectives[index].prepare(self.corpus, record, encoding, generator)
        if hides != index:
            generator = generator_of(hides)
        rows = objectives[hides].rows(prepared.encoding, generator)
        return with_targets(rows, prepared.targets)

    @cached_property
    def _hides_in(self) -> dict[str, int]:
        """Which objective hides tokens in the rows of another, by the other's name."""
        return {
            objective.rows_of: index
            for index, objective in enumerate(self.objectives)
            if objective.rows_of
        }


@dataclass(frozen=True)
class TrainingSequences:
    """The stored tokens of the training records; iterating reads them again.

    Args:
        store: the corpus.
        records: int64, numbers of the records.
    """

    store: TokenStore
    records: npt.NDArray[np.int64]

    def __iter__(self) -> Iterator[npt.NDArray[np.unsignedinteger[Any]]]:
        for record in self.records.tolist():
            yield self.store[record]


@dataclass(frozen=True)
class EvaluationSample:
    """A held-out sequence and the tokens that are to be predicted in it.

    Args:
        encoding: the true sequence, cut to its first window.
        positions: int32 ``[m]``, predicted.
        row: with the targets; hidden by mask tokens, or by what a causal row may see.
    """

    encoding: Encoding
    positions: npt.NDArray[np.int32]
    row: Row


def evaluation_context(objectives: Sequence[Objective]) -> PrefixContext:
    """Return how the context of a response is read when a run is evaluated: as by the first."""
    contexts = [each.prefix_context for each in objectives if each.predicts_tokens]
    return (contexts[0] if contexts else None) or "causal"


def evaluation_samples(
    domain: Domain,
    store: TokenStore,
    records: npt.NDArray[np.int64],
    *,
    max_length: int,
    direction: Direction | None = None,
    context: PrefixContext = "causal",
) -> list[EvaluationSample]:
    """Choose what is predicted of each record, always the same.

    Independent of the run's seed and training policy, so that all runs on a corpus are measured
    on the same targets.

    Args:
        domain: assembles encodings.
        store: the corpus.
        records: int64, held out.
        max_length: tokens per row, special tokens included.
        direction: predict every token from those before it in this direction, or every token of
            the response where the domain gives one; if None, hide a uniform 15 % behind mask
            tokens.
        context: how the tokens before a given response see one another.
    """
    token_range = domain.vocabulary.ranges[domain.name]
    allowed = AllowedTokens.of(range(*token_range), len(domain.vocabulary))
    policy = domain.evaluation_policy
    samples = []
    for record in records.tolist():
        encoding = domain.assemble(store[record], max_length=max_length)
        if direction is not None:
            samples.append(_causal_sample(encoding, direction, context, allowed))
            continue
        masked = policy.apply(
            encoding,
            vocabulary=domain.vocabulary,
            token_range=token_range,
            generator=stream(EVALUATION_SEED, Purpose.EVALUATION, sample=record),
        )
        labels = encoding.ids[masked.positions]
        targets = Targets(masked.positions, labels, domain.allowed_at(labels))
        row = Row.of(encoding, masked.ids, {EVALUATION: targets})
        samples.append(EvaluationSample(encoding, masked.positions, row))
    return samples


def _causal_sample(
    encoding: Encoding, direction: Direction, context: PrefixContext, allowed: AllowedTokens
) -> EvaluationSample:
    # Without the end of the sequence, which the bars do not predict either.
    predicted = predictable(encoding, direction)
    start = encoding.response_start
    if start is not None:
        predicted = predicted[predicted >= start]
    if start is not None and context == "bidirectional":
        row = prefix_row(encoding, start, name=EVALUATION, predicted=predicted, allowed=allowed)
    else:
        row = causal_row(encoding, direction, name=EVALUATION, predicted=predicted, allowed=allowed)
    return EvaluationSample(encoding, predicted, row)
