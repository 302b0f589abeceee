"""Records to packed batches: what a run asks for and every rank builds for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqmlm.data.packing import PackedBatch, pack
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.masking.policy import UNIFORM_MASKS
from seqmlm.objectives.rows import Objective, Row, Targets
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
    """

    domain: Domain
    store: TokenStore
    objectives: Sequence[Objective]
    max_length: int
    seed: int

    def batch(self, epoch: int, records: npt.NDArray[np.int64]) -> PackedBatch:
        """Return the rows of all objectives for some records, packed in order."""
        return pack([row for record in records.tolist() for row in self._rows(epoch, record)])

    def _rows(self, epoch: int, record: int) -> list[Row]:
        encoding = self.domain.assemble(
            self.store[record],
            max_length=self.max_length,
            generator=stream(self.seed, Purpose.WINDOW, epoch=epoch, sample=record),
        )
        return [
            row
            for index, objective in enumerate(self.objectives)
            for row in objective.rows(
                encoding,
                stream(self.seed, Purpose.OBJECTIVE, epoch=epoch, sample=record, index=index),
            )
        ]


@dataclass(frozen=True)
class EvaluationSample:
    """A held-out sequence and the tokens that are hidden in it.

    Args:
        encoding: the true sequence, cut to its first window.
        positions: int32 ``[m]``, hidden.
        row: with the mask token at every hidden position, and the targets.
    """

    encoding: Encoding
    positions: npt.NDArray[np.int32]
    row: Row


def evaluation_samples(
    domain: Domain, store: TokenStore, records: npt.NDArray[np.int64], *, max_length: int
) -> list[EvaluationSample]:
    """Hide a uniform 15 % of each record behind mask tokens, always the same 15 %.

    Independent of the run's seed and training policy, so that all runs on a corpus are measured
    on the same targets.
    """
    token_range = domain.vocabulary.ranges[domain.name]
    allowed = AllowedTokens.of(range(*token_range), len(domain.vocabulary))
    samples = []
    for record in records.tolist():
        encoding = domain.assemble(store[record], max_length=max_length)
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
