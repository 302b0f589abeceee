"""Records to packed batches: what a run asks for and every rank builds for itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmlm.data.packing import PackedBatch, pack
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.masking.policy import UNIFORM_MASKS
from seqmlm.objectives.clm import causal_row, causal_targets
from seqmlm.objectives.rows import Direction, Objective, Row, Targets
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
        objectives: each adds its rows to the batch.
        max_length: tokens per row, special tokens included.
        seed: of the run.
        schedule: which objectives train on which sample; all of them on all if absent.
    """

    domain: Domain
    store: TokenStore
    objectives: Sequence[Objective]
    max_length: int
    seed: int
    schedule: Schedule | None = None

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
        encoding = self.domain.assemble(
            self.store[record],
            max_length=self.max_length,
            generator=stream(self.seed, Purpose.WINDOW, epoch=epoch, sample=record),
        )
        rows: list[Row] = []
        for index in schedule.active(seed=self.seed, epoch=epoch, record=record):
            mask_epoch = objectives[index].mask_epoch(epoch)
            generator = stream(
                self.seed, Purpose.OBJECTIVE, epoch=mask_epoch, sample=record, index=index
            )
            rows += objectives[index].rows(encoding, generator)
        return rows


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


def evaluation_direction(objectives: Sequence[Objective]) -> Direction | None:
    """Return how a run is evaluated: by masks (None) if any of its objectives fills them in."""
    directions = [objective.causal_direction for objective in objectives]
    return None if None in directions else directions[0]


def evaluation_samples(
    domain: Domain,
    store: TokenStore,
    records: npt.NDArray[np.int64],
    *,
    max_length: int,
    direction: Direction | None = None,
) -> list[EvaluationSample]:
    """Choose what is predicted of each record, always the same.

    Independent of the run's seed and training policy, so that all runs on a corpus are measured
    on the same targets.

    Args:
        domain: assembles encodings.
        store: the corpus.
        records: int64, held out.
        max_length: tokens per row, special tokens included.
        direction: predict every token from those before it in this direction; if None, hide a
            uniform 15 % behind mask tokens.
    """
    token_range = domain.vocabulary.ranges[domain.name]
    allowed = AllowedTokens.of(range(*token_range), len(domain.vocabulary))
    samples = []
    for record in records.tolist():
        encoding = domain.assemble(store[record], max_length=max_length)
        if direction is not None:
            row = causal_row(encoding, direction, name=EVALUATION, allowed=allowed)
            predicted, _ = causal_targets(encoding, direction)
            samples.append(EvaluationSample(encoding, predicted, row))
            continue
        masked = UNIFORM_MASKS.apply(
            encoding,
            vocabulary=domain.vocabulary,
            token_range=token_range,
            generator=stream(EVALUATION_SEED, Purpose.EVALUATION, sample=record),
        )
        targets = Targets(masked.positions, encoding.ids[masked.positions], allowed)
        row = Row.of(encoding, masked.ids, {EVALUATION: targets})
        samples.append(EvaluationSample(encoding, masked.positions, row))
    return samples
