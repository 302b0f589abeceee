"""Bars: predictors of a hidden token that only count.

They see exactly what the model sees when every target is a mask token: the other tokens of the
sequence. A model that does not beat them has learned nothing that counting could not.

- unigram: training frequencies;
- composition: the tokens of the same sequence, as the posterior mean under a Dirichlet prior
  centred on the unigram;
- composition + context: a naive-Bayes classifier on top of it, whose features are the
  neighbours up to 4 places away. As they are not independent, their evidence carries a weight;
- composition + adjacent: the same with the two tokens beside the target alone, for ranges too
  large for tables of all pairs.
"""

# R tokens in the range [low, high), S sequences, M targets (hidden tokens)

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import IntArray
from seqmlm.errors import ConfigError, DataError
from seqmlm.evaluation.adjacent import AdjacentEvidence, AdjacentPairs
from seqmlm.evaluation.counting import (
    MAX_CONTEXT_TOKENS,
    OFFSETS,
    Counts,
    FloatArray,
    IndexArray,
    Positions,
    Targets,
    association,
    count,
    iterate_targets,
    smoothed_frequencies,
)

UNIGRAM = "unigram"
COMPOSITION = "composition"
CONTEXT = "composition + context"
ADJACENT = "composition + adjacent"

_MASK_RATE = 0.15  # the rate of validation, for which strength and weight are fitted
_FOLDS = 5
_MAX_TUNING_SEQUENCES = 2_000
_MAX_TUNING_ELEMENTS = 1 << 22  # of all [M, R] arrays; bounds the time of a large range
_STRENGTHS = np.geomspace(0.1, 1e5, 61)
_WEIGHTS = np.linspace(0.0, 1.5, 31)
_SHRINKAGES = np.geomspace(1, 1e4, 9)
_ADJACENT_WEIGHTS = np.linspace(0.0, 1.4, 8)
_BLOCK_TOKENS = 1 << 20


@dataclass(frozen=True, slots=True)
class BarResult:
    """One bar on all targets of an evaluation, in the order in which they were given.

    Args:
        nats: float64 ``[targets]``; minus the log-probability of the true token.
        correct: bool ``[targets]``; whether the most probable token is the true one. Of equally
            probable tokens the lowest id counts.
    """

    nats: FloatArray
    correct: npt.NDArray[np.bool_]

    @property
    def loss(self) -> float:
        """Mean nats per target."""
        return float(self.nats.mean())

    @property
    def perplexity(self) -> float:
        """Exponential of the loss."""
        return float(np.exp(self.loss))

    @property
    def accuracy(self) -> float:
        """Share of the targets whose most probable token is the true one, in [0, 1]."""
        return float(self.correct.mean())


@dataclass(frozen=True)
class Context:
    """What the neighbours of a hidden token say about it.

    Args:
        association: float64 ``[8, R + 1, R]``; ``[k, c, a]`` is the log-likelihood ratio that a
            neighbour ``low + c`` at offset -4, -3, -2, -1, 1, 2, 3 or 4 (the k-th of them) gives
            for the token ``low + a``; zero in the last ``c``, which is nothing to see. Of large
            ranges, the ratios of the neighbours at -1 and 1 that occur in the training data.
        weight: factor of the ratios; 1 would be right if neighbours were independent.
    """

    association: FloatArray | AdjacentEvidence
    weight: float

    @property
    def name(self) -> str:
        """Of the bar that it makes."""
        return ADJACENT if isinstance(self.association, AdjacentEvidence) else CONTEXT

    def log_probabilities(self, prior: FloatArray, neighbours: IndexArray) -> FloatArray:
        """Update log-probabilities ``[M, R]`` by the neighbours' codes ``[M, 8]``."""
        scores = prior + self.weight * _evidence(self.association, neighbours)
        return _log_normalised(scores)


@dataclass(frozen=True)
class Bars:
    """Fitted bars of one range of tokens; :func:`fit_bars` makes them.

    Args:
        low: first id that may be predicted.
        unigram: float64 ``[R]``; smoothed training frequencies, summing to one.
        strength: how many visible tokens the unigram is worth in the composition bar.
        context: of the context bar; None where there is none.
        absent: name of each bar that is missing -> the reason.
    """

    low: int
    unigram: FloatArray
    strength: float
    context: Context | None
    absent: Mapping[str, str]

    @property
    def high(self) -> int:
        """One past the last id that may be predicted."""
        return self.low + len(self.unigram)

    def evaluate(
        self, sequences: Sequence[IntArray], hidden: Sequence[Positions]
    ) -> dict[str, BarResult]:
        """Score every bar on hidden tokens; nothing hidden is seen by any of them.

        Args:
            sequences: true ids, int32 ``[n]`` each, special tokens included.
            hidden: for each sequence the positions of its targets, int ``[m]``, in [0, n).

        Returns:
            Name of the bar -> result over the targets of all sequences, in the order of
            ``np.concatenate([ids[positions] for ids, positions in zip(sequences, hidden)])``.
            Unigram first, then composition, then context or adjacent.

        Raises:
            ConfigError: there is no target, a position is outside its sequence, or a target is
                outside the range.
        """
        _check_hidden(sequences, hidden, self.low, self.high)
        scored: dict[str, list[BarResult]] = {}
        for targets in iterate_targets(sequences, hidden, self.low, self.high):
            for name, result in self._score(targets).items():
                scored.setdefault(name, []).append(result)
        return {
            name: BarResult(
                np.concatenate([part.nats for part in parts]),
                np.concatenate([part.correct for part in parts]),
            )
            for name, parts in scored.items()
        }

    def _score(self, targets: Targets) -> dict[str, BarResult]:
        truth, sequence = targets.truth, targets.sequence
        composition = _composition(targets.visible_counts, self.unigram, self.strength)
        best = composition.argmax(axis=1)
        results = {
            UNIGRAM: BarResult(-np.log(self.unigram[truth]), truth == self.unigram.argmax()),
            COMPOSITION: BarResult(-composition[sequence, truth], truth == best[sequence]),
        }
        if self.context is not None:
            scores = self.context.log_probabilities(composition[sequence], targets.neighbours)
            nats = -scores[np.arange(len(truth)), truth]
            results[self.context.name] = BarResult(nats, truth == scores.argmax(axis=1))
        return results


def fit_bars(sequences: Iterable[IntArray], low: int, high: int, *, seed: int) -> Bars:
    """Count tokens and pairs of training sequences, then fit strength and weight.

    These two minimise the loss on a uniform sample of at most 2,000 sequences with 15 % of their
    tokens hidden, in five folds: each fold is judged under the counts of all sequences but its
    own, under which rare pairs would look more telling than they are. The bars returned use the
    counts of all.

    Args:
        sequences: ids of each training sequence, int32 ``[n]``, special tokens included; read
            once, so a generator will do. Memory does not grow with their number.
        low: first id that may be predicted.
        high: one past the last; ids outside [low, high) are neither counted nor predicted.
        seed: of the sample and of its hidden positions; at least 0.

    Returns:
        The bars. Ranges of more than 512 tokens have the adjacent bar instead of the context bar.

    Raises:
        ConfigError: the range is empty.
        DataError: no sequence holds a token of the range.
    """
    if not 0 <= low < high:
        raise ConfigError(f"bars: the range is [{low}, {high}); it needs 0 <= low < high.")
    generator = np.random.default_rng(seed)
    counts, sample = _count_and_sample(sequences, low, high, generator)
    if not counts.tokens.any():
        raise DataError(
            f"bars: no training sequence holds a token of the range [{low}, {high}). "
            "Check that the training split is not empty and belongs to this domain."
        )
    strength, context = _fit_strength_and_context(sample, counts, low, high, generator)
    unigram = smoothed_frequencies(counts.tokens)
    if context.name == CONTEXT:
        return Bars(low, unigram, strength, context, absent={})
    reason = (
        f"the range has {high - low:,} tokens; pairs up to 4 places apart are counted for at most "
        f"{MAX_CONTEXT_TOKENS}"
    )
    return Bars(low, unigram, strength, context, absent={CONTEXT: reason})


def _count_and_sample(
    sequences: Iterable[IntArray], low: int, high: int, generator: np.random.Generator
) -> tuple[Counts, list[IntArray]]:
    """Count all sequences in one pass and keep a uniform sample of them (a reservoir)."""
    counts = count([], low, high)
    reservoir: list[IntArray] = []
    block: list[IntArray] = []
    block_tokens = 0
    for number, ids in enumerate(sequences, start=1):
        block.append(ids)
        block_tokens += len(ids)
        if block_tokens >= _BLOCK_TOKENS:
            counts = counts.plus(count(block, low, high))
            block, block_tokens = [], 0
        # Copies: a view could keep a whole file's buffer alive.
        if len(reservoir) < _MAX_TUNING_SEQUENCES:
            reservoir.append(ids.copy())
        elif (slot := int(generator.integers(number))) < len(reservoir):
            reservoir[slot] = ids.copy()
    counts = counts.plus(count(block, low, high))
    # As a set the reservoir is uniform, in its order it is not.
    return counts, [reservoir[index] for index in generator.permutation(len(reservoir))]


def _draw_hidden(
    sequences: Sequence[IntArray], low: int, high: int, generator: np.random.Generator
) -> list[Positions]:
    """Draw positions of the first sequences until there are enough targets."""
    budget = _MAX_TUNING_ELEMENTS // min(high - low, MAX_CONTEXT_TOKENS)
    hidden: list[Positions] = []
    for ids in sequences:
        candidates = np.flatnonzero((ids >= low) & (ids < high))
        size = min(len(candidates), max(1, round(_MASK_RATE * len(candidates))))
        hidden.append(generator.choice(candidates, size, replace=False))
        budget -= size
        if budget <= 0:
            break
    return hidden


def _check_hidden(
    sequences: Sequence[IntArray], hidden: Sequence[Positions], low: int, high: int
) -> None:
    if len(sequences) != len(hidden):
        raise ConfigError(f"bars: {len(sequences)} sequences but {len(hidden)} sets of positions.")
    if not any(len(positions) for positions in hidden):
        raise ConfigError("bars: no position is hidden; give at least one target.")
    for number, (ids, positions) in enumerate(zip(sequences, hidden, strict=True)):
        outside = positions[(positions < 0) | (positions >= len(ids))]
        if outside.size:
            raise ConfigError(
                f"bars: hidden position {outside[0]} of sequence {number} (counted from 0) is not "
                f"in [0, {len(ids)})."
            )
        unpredictable = positions[(ids[positions] < low) | (ids[positions] >= high)]
        if unpredictable.size:
            raise ConfigError(
                f"bars: the target at position {unpredictable[0]} of sequence {number} (counted "
                f"from 0) has id {ids[unpredictable[0]]}, not in the range [{low}, {high}). Give "
                "true ids, not masked ones, and hide only tokens of the range."
            )


def _composition(counts: IndexArray, unigram: FloatArray, strength: float) -> FloatArray:
    """Return log-probabilities [S, R] from the visible counts [S, R] of each sequence."""
    totals = counts.sum(axis=1, keepdims=True)
    log_probabilities: FloatArray = np.log((counts + strength * unigram) / (totals + strength))
    return log_probabilities


def _evidence(table: FloatArray | AdjacentEvidence, neighbours: IndexArray) -> FloatArray:
    """Return the summed log-likelihood ratios [M, R] of the neighbours [M, 8]."""
    if isinstance(table, AdjacentEvidence):
        return table.ratios(*neighbours[:, np.abs(OFFSETS) == 1].T)
    evidence = np.zeros((len(neighbours), table.shape[2]))
    for ratios, codes in zip(table, neighbours.T, strict=True):
        evidence += ratios[codes]
    return evidence


def _log_normalised(scores: FloatArray) -> FloatArray:
    """Return the log-softmax of each row."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_probabilities: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probabilities


_Fold = tuple[Sequence[IntArray], Sequence[Positions]]


def _fit_strength_and_context(
    sample: Sequence[IntArray],
    counts: Counts,
    low: int,
    high: int,
    generator: np.random.Generator,
) -> tuple[float, Context]:
    """Minimise the loss over the grids of the strength, then over those of the context."""
    hidden = _draw_hidden(sample, low, high, generator)
    strength_losses, weight_losses = np.zeros(len(_STRENGTHS)), np.zeros(len(_WEIGHTS))
    folds = [
        (sample[fold : len(hidden) : _FOLDS], hidden[fold::_FOLDS])
        for fold in range(min(_FOLDS, len(hidden)))
    ]
    others = [counts.minus(count(part, low, high)) for part, _ in folds]
    for fold, fold_counts in zip(folds, others, strict=True):
        strength_losses += _strength_losses(iterate_targets(*fold, low, high), fold_counts)
    strength = float(_STRENGTHS[strength_losses.argmin()])
    unigram = smoothed_frequencies(counts.tokens)
    if isinstance(counts.pairs, AdjacentPairs):
        shrinkage, weight = _fit_adjacent(folds, others, strength, low, high)
        return strength, Context(AdjacentEvidence.of(counts.pairs, unigram, shrinkage), weight)
    for fold, fold_counts in zip(folds, others, strict=True):
        targets = iterate_targets(*fold, low, high)
        weight_losses += _weight_losses(targets, fold_counts, strength)
    weight = float(_WEIGHTS[weight_losses.argmin()])
    return strength, Context(association(counts.pairs, unigram), weight)


def _fit_adjacent(
    folds: Sequence[_Fold], others: Sequence[Counts], strength: float, low: int, high: int
) -> tuple[float, float]:
    """Return shrinkage and weight of the least loss on the first targets of each fold."""
    losses = np.zeros((len(_SHRINKAGES), len(_ADJACENT_WEIGHTS)))
    for fold, counts in zip(folds, others, strict=True):
        assert isinstance(counts.pairs, AdjacentPairs)
        targets = next(iterate_targets(*fold, low, high))
        unigram = smoothed_frequencies(counts.tokens)
        for index, shrinkage in enumerate(_SHRINKAGES):
            evidence = AdjacentEvidence.of(counts.pairs, unigram, float(shrinkage))
            losses[index] += _context_losses(
                targets, unigram, evidence, strength, _ADJACENT_WEIGHTS
            )
    best, weight = np.unravel_index(losses.argmin(), losses.shape)
    return float(_SHRINKAGES[best]), float(_ADJACENT_WEIGHTS[weight])


def _strength_losses(chunks: Iterable[Targets], counts: Counts) -> FloatArray:
    unigram = smoothed_frequencies(counts.tokens)
    losses = np.zeros(len(_STRENGTHS))
    for targets in chunks:
        # Only the true token's probability matters, so no [M, R] array is built here.
        visible = targets.visible_counts[targets.sequence, targets.truth]
        totals = targets.visible_counts.sum(axis=1)[targets.sequence]
        prior = unigram[targets.truth]
        for index, strength in enumerate(_STRENGTHS):
            losses[index] -= np.log((visible + strength * prior) / (totals + strength)).sum()
    return losses


def _weight_losses(chunks: Iterable[Targets], counts: Counts, strength: float) -> FloatArray:
    losses = np.zeros(len(_WEIGHTS))
    assert not isinstance(counts.pairs, AdjacentPairs)
    unigram = smoothed_frequencies(counts.tokens)
    table = association(counts.pairs, unigram)
    for targets in chunks:
        losses += _context_losses(targets, unigram, table, strength, _WEIGHTS)
    return losses


def _context_losses(
    targets: Targets,
    unigram: FloatArray,
    table: FloatArray | AdjacentEvidence,
    strength: float,
    weights: FloatArray,
) -> FloatArray:
    """Return the summed loss of some targets for each weight."""
    composition = _composition(targets.visible_counts, unigram, strength)[targets.sequence]
    evidence = _evidence(table, targets.neighbours)
    rows = np.arange(len(targets.truth))
    losses = np.zeros(len(weights))
    for index, weight in enumerate(weights):
        scores = _log_normalised(composition + weight * evidence)
        losses[index] -= scores[rows, targets.truth].sum()
    return losses
