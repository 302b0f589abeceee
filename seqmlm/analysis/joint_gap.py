"""What predicting masked tokens independently loses against predicting them jointly."""

# M tuples of n positions; a subset of them is a bit mask: bit i stands for the i-th position

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from seqmlm.analysis.estimate import Estimate, clustered_mean
from seqmlm.analysis.run import AnalysedRun, Corpus
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError, DataError
from seqmlm.inference.batches import hidden_states
from seqmlm.inference.likelihood import TARGETS
from seqmlm.objectives.rows import Row, Targets
from seqmlm.objectives.trained import require_masks

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class JointScores:
    """The true tokens at some positions, scored in every way that single predictions allow.

    Args:
        independent: float64 ``[M]``; sum of log p(token | all n masked), nats.
        chains: float64 ``[M, n!]``; sum of log p(token | those before it in the order revealed),
            one column per order.
    """

    independent: FloatArray
    chains: FloatArray

    @property
    def gap(self) -> FloatArray:
        """Nats gained by the chain rule, mean over the orders; float64 ``[M]``."""
        gap: FloatArray = self.chains.mean(1) - self.independent
        return gap

    @property
    def inconsistency(self) -> FloatArray:
        """Largest less smallest chain, nats; 0 where one joint distribution is behind them."""
        inconsistency: FloatArray = np.ptp(self.chains, axis=1)
        return inconsistency


def joint_scores(log_p: FloatArray) -> JointScores:
    """Combine conditional log-probabilities of the true tokens.

    Args:
        log_p: float64 ``[M, 2 ** n, n]``, nats. ``log_p[m, hidden, i]`` is that of the token at
            the i-th position when the positions in ``hidden`` are masked and all others seen;
            read only where ``hidden`` holds i.
    """
    size = log_p.shape[2]
    everything = 2**size - 1
    chains = []
    for order in permutations(range(size)):
        hidden, total = everything, np.zeros(len(log_p))
        for member in order:
            total = total + log_p[:, hidden, member]
            hidden &= ~(1 << member)
        chains.append(total)
    return JointScores(log_p[:, everything].sum(1), np.stack(chains, axis=1))


@dataclass(frozen=True)
class GapAtDistance:
    """What was found for positions of one distance.

    Args:
        distance: positions between neighbours of a tuple.
        tuples: how many were scored.
        gap: nats that the chain rule gains over independent predictions, per tuple.
        inconsistency: nats between the best and the worst order of the chain rule, per tuple.
        independent: log-probability of the tuple when predicted independently, nats.
    """

    distance: int
    tuples: int
    gap: Estimate
    inconsistency: Estimate
    independent: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "distance": self.distance,
            "tuples": self.tuples,
            "gap_nats": self.gap.to_json(),
            "order_inconsistency_nats": self.inconsistency.to_json(),
            "independent_log_probability_nats": self.independent.to_json(),
        }


@dataclass(frozen=True)
class JointGapReport:
    """The study of one run.

    Args:
        tuple_size: positions masked together, 2 or 3.
        distances: in increasing order.
    """

    tuple_size: int
    distances: tuple[GapAtDistance, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "tuple_size": self.tuple_size,
            "distances": [found.to_json() for found in self.distances],
        }


def analyse_joint_gap(
    run: AnalysedRun,
    corpus: Corpus,
    *,
    tuple_size: int = 2,
    max_distance: int = 8,
    tuples: int = 200,
    seed: int = 0,
    tokens_per_batch: int = 8192,
) -> JointGapReport:
    """Compare joint and independent prediction of masked positions by their distance.

    With two masks the expected gap of a perfect model is the mutual information of the two
    tokens given all others; the orders of a perfect model agree. Errors are clustered by record.

    Cost: 2 ** n - 1 rows per tuple.

    Args:
        run: of a model that fills in masks.
        corpus: to draw records and positions from, uniformly.
        tuple_size: n, 2 or 3.
        max_distance: tuples are i, i + d (and i + 2 d) with d from 1 to this.
        tuples: drawn per distance, with replacement.
        seed: of the draws.
        tokens_per_batch: bounds the memory; results do not depend on it.

    Raises:
        ConfigError: the model does not fill in masks, or a number is out of range.
        DataError: no record is long enough for some distance.
    """
    require_masks(
        run.model.trained_objectives, "The comparison of joint and independent prediction"
    )
    _check(tuple_size, max_distance=max_distance, tuples=tuples)
    generator = np.random.default_rng(seed)
    found = []
    for distance in range(1, max_distance + 1):
        offsets = np.arange(tuple_size) * distance
        drawn = _draw(corpus, offsets, tuples, generator)
        scores = joint_scores(
            conditional_log_probabilities(
                run,
                [(encoding, positions) for _, encoding, positions in drawn],
                tokens_per_batch=tokens_per_batch,
            )
        )
        records = [record for record, _, _ in drawn]
        columns = (scores.gap, scores.inconsistency, scores.independent)
        estimates = (clustered_mean(column, records) for column in columns)
        found.append(GapAtDistance(distance, len(drawn), *estimates))
    return JointGapReport(tuple_size, tuple(found))


def conditional_log_probabilities(
    run: AnalysedRun,
    tuples: Sequence[tuple[Encoding, npt.NDArray[np.int32]]],
    *,
    tokens_per_batch: int,
) -> FloatArray:
    """Ask a model for every conditional that :func:`joint_scores` reads.

    Args:
        run: its model is asked.
        tuples: M encodings with n positions each.
        tokens_per_batch: bounds the memory; results do not depend on it.

    Returns:
        float64 ``[M, 2 ** n, n]``, nats; NaN where nothing was asked.
    """
    size = len(tuples[0][1])
    hidden_sets = range(1, 2**size)
    questions = [(index, hidden) for index in range(len(tuples)) for hidden in hidden_sets]
    rows = [_row(run, *tuples[index], hidden) for index, hidden in questions]
    log_p = np.full((len(tuples), 2**size, size), np.nan)
    model = run.model
    with model.inference():
        for chosen, batch, states in hidden_states(model, rows, tokens_per_batch=tokens_per_batch):
            targets = batch.targets[TARGETS]
            found = model.token_head.log_probabilities(
                states,
                targets.rows,
                targets.labels,
                allowed=model.allowed_tokens,
                backend=model.encoder.backend,
            )
            values = iter(found.to(torch.float64).tolist())
            for index, hidden in (questions[row] for row in chosen):
                for member in _members(hidden, size):
                    log_p[index, hidden, member] = next(values)
    return log_p


def _row(
    run: AnalysedRun, encoding: Encoding, positions: npt.NDArray[np.int32], hidden: int
) -> Row:
    masked = positions[list(_members(hidden, len(positions)))]
    ids = encoding.ids.copy()
    ids[masked] = run.model.vocabulary.special.mask
    return Row.of(encoding, ids, {TARGETS: Targets(masked, encoding.ids[masked])})


def _members(hidden: int, size: int) -> Iterator[int]:
    return (member for member in range(size) if hidden >> member & 1)


def _draw(
    corpus: Corpus, offsets: npt.NDArray[np.int64], count: int, generator: np.random.Generator
) -> list[tuple[int, Encoding, npt.NDArray[np.int32]]]:
    """Records, their encodings and positions; a record without room is drawn again."""
    drawn: list[tuple[int, Encoding, npt.NDArray[np.int32]]] = []
    attempts = 20 * count + len(corpus.records)
    for record in generator.choice(corpus.records, attempts).tolist():
        encoding = corpus.encoding(record, generator)
        maskable = encoding.unit_ids >= 0
        room = len(encoding) - int(offsets[-1])
        if room > 0:
            starts = np.flatnonzero(
                np.all([maskable[offset : offset + room] for offset in offsets], axis=0)
            )
            if len(starts):
                positions = (generator.choice(starts) + offsets).astype(np.int32)
                drawn.append((record, encoding, positions))
        if len(drawn) == count:
            return drawn
    if not drawn:
        raise DataError(
            f"No record has {len(offsets)} maskable tokens {int(offsets[1])} apart. Give longer "
            "records with --data, or a smaller --max-distance."
        )
    return drawn


def _check(tuple_size: int, *, max_distance: int, tuples: int) -> None:
    if tuple_size not in (2, 3):
        raise ConfigError(f"tuple size = {tuple_size}: it is 2 or 3.")
    for name, given in (("max distance", max_distance), ("tuples", tuples)):
        if given < 1:
            raise ConfigError(f"{name} = {given}: must be at least 1.")
