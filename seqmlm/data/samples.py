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
from seqmlm.encoding import Encoding, EncodingBatch
from seqmlm.objectives.clm import causal_row, predictable
from seqmlm.objectives.prefix_lm import prefix_row
from seqmlm.objectives.rows import (
    BatchObjective,
    Direction,
    Objective,
    PrefixContext,
    Prepared,
    Row,
    Targets,
    joined_targets,
    with_targets,
)
from seqmlm.objectives.schedule import Schedule, Together
from seqmlm.randomness import Purpose, Streams
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
        """Return the rows of the active objectives for some records, packed.

        The rows of the first objective come first, each in the order of the records.

        Args:
            epoch: pass over the data.
            records: int64, record numbers.
            progress: 0 at the run's first step, 1 at its last.
        """
        if not len(records):
            return pack([])
        objectives = [objective.at(progress) for objective in self.objectives]
        schedule = self.schedule or Together(len(objectives))
        encodings = self._encodings(epoch, records)
        active = [
            schedule.active(seed=self.seed, epoch=epoch, record=record)
            for record in records.tolist()
        ]
        rows: list[Row] = []
        for index, objective in enumerate(objectives):
            chosen = [place for place, indices in enumerate(active) if index in indices]
            if chosen and not objective.rows_of:
                own = EncodingBatch([encodings[place] for place in chosen])
                rows += self._rows(objectives, index, epoch, records[chosen], own)
        return pack(rows)

    def _encodings(self, epoch: int, records: npt.NDArray[np.int64]) -> list[Encoding]:
        streams = Streams.of(self.seed, Purpose.WINDOW, epoch=epoch, samples=records)
        room = self.max_length - self.domain.special_tokens_per_sequence
        tokens = [self.store[record] for record in records.tolist()]
        encodings = self.domain.assemble_all(
            tokens, max_length=self.max_length, generators=streams.generators()
        )
        is_cut = [
            len(own) > room and encoding.response_start is None  # a cut response shows no end token
            for own, encoding in zip(tokens, encodings, strict=True)
        ]
        return [
            replace(encoding, is_cut=True) if cut and not encoding.is_cut else encoding
            for encoding, cut in zip(encodings, is_cut, strict=True)
        ]

    def _rows(
        self,
        objectives: Sequence[Objective],
        index: int,
        epoch: int,
        records: npt.NDArray[np.int64],
        batch: EncodingBatch,
    ) -> list[Row]:
        """Rows of one objective, with hidden what another one hides in them."""
        objective = objectives[index]
        hides = self._hides_in.get(objective.name, index)
        mask_epoch = objectives[hides].mask_epoch(epoch)

        def streams_of(number: int) -> Streams:
            return Streams.of(
                self.seed, Purpose.OBJECTIVE, epoch=mask_epoch, samples=records, index=number
            )

        if isinstance(objective, BatchObjective):
            return [objective.rows_of_batch(batch, streams_of(index))]
        hiding = objectives[hides]
        rows: list[Row] = []
        samples: list[Prepared] = []
        for record, encoding, generator in zip(
            records.tolist(), batch.encodings, streams_of(index).generators(), strict=True
        ):
            sample = objective.prepare(self.corpus, record, encoding, generator)
            samples.append(sample)
            if not isinstance(hiding, BatchObjective):
                rows += with_targets(hiding.rows(sample.encoding, generator), sample.targets)
        if isinstance(hiding, BatchObjective):
            prepared = EncodingBatch([sample.encoding for sample in samples])
            row = hiding.rows_of_batch(prepared, streams_of(hides))
            rows += with_targets([row], joined_targets(samples, row.starts))
        return rows

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
    encodings = [
        domain.assemble(store[record], max_length=max_length) for record in records.tolist()
    ]
    if direction is None:
        return _masked_samples(domain, EncodingBatch(encodings), records) if encodings else []
    token_range = domain.vocabulary.ranges[domain.name]
    allowed = AllowedTokens.of(range(*token_range), len(domain.vocabulary))
    return [_causal_sample(encoding, direction, context, allowed) for encoding in encodings]


def continuation_samples(
    domain: Domain,
    store: TokenStore,
    records: npt.NDArray[np.int64],
    objective: Objective,
    *,
    max_length: int,
) -> list[EvaluationSample]:
    """Choose what a causal objective predicts of each record, in its own rows and always the same.

    Without the special token at which reading ends, which bars do not predict.

    Args:
        domain: assembles encodings.
        store: the corpus.
        records: int64, held out.
        objective: has a direction, and makes one row of the true sequence; whatever it draws,
            such as where a response begins, does not depend on the seed of the run.
        max_length: tokens per row, special tokens included.
    """
    low, high = domain.vocabulary.ranges[domain.name]
    allowed = AllowedTokens.of(range(low, high), len(domain.vocabulary))
    back = np.int32(1 if objective.causal_direction == "left_to_right" else -1)
    streams = Streams.of(EVALUATION_SEED, Purpose.EVALUATION, epoch=0, samples=records)
    samples = []
    for record, generator in zip(records.tolist(), streams.generators(), strict=True):
        encoding = domain.assemble(store[record], max_length=max_length)
        (row,) = objective.rows(encoding, generator)
        own = row.targets[objective.name]
        keep = (own.labels >= low) & (own.labels < high)
        targets = Targets(own.positions[keep], own.labels[keep], allowed)
        row = replace(row, targets={EVALUATION: targets})
        samples.append(EvaluationSample(encoding, targets.positions + back, row))
    return samples


def _masked_samples(
    domain: Domain, batch: EncodingBatch, records: npt.NDArray[np.int64]
) -> list[EvaluationSample]:
    masked = domain.evaluation_policy.apply_to_batch(
        batch,
        vocabulary=domain.vocabulary,
        token_range=domain.vocabulary.ranges[domain.name],
        streams=Streams.of(EVALUATION_SEED, Purpose.EVALUATION, epoch=0, samples=records),
    )
    ends = batch.starts + batch.lengths
    samples = []
    for encoding, start, positions, ids in zip(
        batch.encodings,
        batch.starts.astype(np.int32),
        np.split(masked.positions, np.cumsum(batch.count(masked.positions))[:-1]),
        np.split(masked.ids, ends[:-1]),
        strict=True,
    ):
        own = positions - start
        labels = encoding.ids[own]
        targets = Targets(own, labels, domain.allowed_at(labels))
        row = Row.of(encoding, ids, {EVALUATION: targets})
        samples.append(EvaluationSample(encoding, own, row))
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
