"""How probable a model finds each record of a file, and which ones it finds least probable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqmlm.analysis.run import AnalysedRun
from seqmlm.analysis.surprisal import predicted_from, token_surprisal
from seqmlm.data.report import ReadReport
from seqmlm.errors import DataError
from seqmlm.inference.records import encoded_records
from seqmlm.objectives.rows import Direction


@dataclass(frozen=True, slots=True)
class RecordLikelihood:
    """The score of one record.

    Args:
        name: of the record.
        place: where it stands.
        tokens: how many were scored, 1 or more.
        log_likelihood: sum over them, nats.
    """

    name: str
    place: str
    tokens: int
    log_likelihood: float

    @property
    def per_token(self) -> float:
        """Mean log-likelihood, nats per token."""
        return self.log_likelihood / self.tokens


@dataclass(frozen=True)
class LikelihoodReport:
    """The scores of the records of some files.

    Args:
        records: in order of reading.
        direction: of a causal run; None for pseudo-log-likelihoods.
        unscored: how many records had no token to score.
        read: what became of the records read.
    """

    records: tuple[RecordLikelihood, ...]
    direction: Direction | None
    unscored: int
    read: ReadReport

    @property
    def least_likely(self) -> list[RecordLikelihood]:
        """All records, the lowest log-likelihood per token first; ties in order of reading."""
        return sorted(self.records, key=lambda record: record.per_token)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, the least likely record first."""
        per_token = np.array([record.per_token for record in self.records])
        quantiles = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
        return {
            "predicted_from": predicted_from(self.direction),
            "records": len(self.records),
            "records_without_scored_token": self.unscored,
            "mean_nats_per_token": float(per_token.mean()),
            "quantiles_nats_per_token": {
                str(share): float(np.quantile(per_token, share)) for share in quantiles
            },
            "least_likely_first": [
                {
                    "name": record.name,
                    "place": record.place,
                    "scored_tokens": record.tokens,
                    "log_likelihood_nats": record.log_likelihood,
                    "nats_per_token": record.per_token,
                }
                for record in self.least_likely
            ],
        }


def analyse_pseudo_likelihood(
    run: AnalysedRun,
    sources: Sequence[str],
    *,
    tokens_per_batch: int = 8192,
    on_progress: Callable[[int], None] = lambda records: None,
) -> LikelihoodReport:
    """Score every record of some files; see :func:`~seqmlm.analysis.surprisal.token_surprisal`.

    A causal run gives log-likelihoods of the tokens after the first, any other
    pseudo-log-likelihoods.

    Args:
        run: of either kind.
        sources: files, folders, glob patterns, or ``-`` for standard input.
        tokens_per_batch: bounds the memory; results do not depend on it.
        on_progress: called with the number of records scored.

    Raises:
        DataError: a source cannot be used, a record is longer than the learned positions, or no
            record has a token that can be scored.
    """
    read = ReadReport()
    records: list[RecordLikelihood] = []
    unscored = 0
    longest = run.model.encoder.config.longest_sequence
    for record, encoding in encoded_records(run.model.domain, sources, read, longest=longest):
        _, nats = token_surprisal(run, encoding, tokens_per_batch=tokens_per_batch)
        if not len(nats):
            unscored += 1
            continue
        records.append(RecordLikelihood(record.name, record.place, len(nats), -float(np.sum(nats))))
        on_progress(len(records))
    if not records:
        raise DataError(f"{', '.join(sources)}: no record holds a token that can be scored.")
    return LikelihoodReport(tuple(records), run.direction, unscored, read)
