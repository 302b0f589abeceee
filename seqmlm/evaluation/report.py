"""A model beside the bars, on the same tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from seqmlm.data.samples import EvaluationSample
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.encoding import IntArray
from seqmlm.evaluation.bars import BarResult, fit_bars
from seqmlm.evaluation.causal_bars import fit_causal_bars
from seqmlm.evaluation.decisions import ObjectiveScores
from seqmlm.evaluation.masked import MaskedScores
from seqmlm.objectives.rows import Direction
from seqmlm.randomness import Purpose, stream

BAR_RECORDS = 20_000
"""Training records that the bars are fitted on at most; more change their third decimal."""

BAR_TOKENS = 10_000_000
"""Tokens of these records at most, but for the first of them."""

TRAINING_DATA = "training data"

DRAWS_PER_GROUP = 20
"""Records drawn per similarity group, if the run samples groups."""


class FittedBars(Protocol):
    """Predictors that only count: of hidden tokens, or of the next one."""

    def evaluate(
        self, sequences: Sequence[IntArray], hidden: Sequence[IntArray]
    ) -> dict[str, BarResult]:
        """Score every bar on some positions of true sequences, by name of the bar."""
        ...


def fit_training_bars(
    domain: Domain,
    store: TokenStore,
    records: npt.NDArray[np.int64],
    *,
    sampling: Literal["record", "cluster"],
    groups: npt.NDArray[np.int64],
    direction: Direction | None = None,
) -> FittedBars:
    """Fit the bars on training records, drawn as the model draws them, and on all of each.

    A model that reads windows of long records sees every part of them in time.

    Args:
        domain: assembles encodings.
        store: the corpus.
        records: int64, the records trained on.
        sampling: of the run; with ``cluster`` every group weighs the same.
        groups: int64 ``[records of the store]``.
        direction: of a causal evaluation; None for hidden tokens.
    """
    generator = stream(0, Purpose.EVALUATION)
    if sampling == "cluster":
        _, group, sizes = np.unique(groups[records], return_inverse=True, return_counts=True)
        chances = 1 / sizes[group]
        size = min(BAR_RECORDS, DRAWS_PER_GROUP * len(sizes))
        records = generator.choice(records, size, p=chances / chances.sum())
    else:
        records = generator.permutation(records)[:BAR_RECORDS]
    lengths = domain.uncut_lengths(store)
    within = int(np.searchsorted(lengths[records].cumsum(), BAR_TOKENS, side="right"))
    records = np.sort(records[: max(1, within)])

    def encodings() -> Iterator[IntArray]:
        for record in records.tolist():
            yield domain.assemble(store[record], max_length=int(lengths[record])).ids

    low, high = domain.vocabulary.ranges[domain.name]
    if direction is not None:
        return fit_causal_bars(encodings(), low, high, direction=direction)
    return fit_bars(encodings(), low, high, seed=0)


def score_bars(bars: FittedBars, samples: Sequence[EvaluationSample]) -> dict[str, BarResult]:
    """Evaluate the bars on the predicted tokens of evaluation samples."""
    return bars.evaluate(
        [sample.encoding.ids for sample in samples], [sample.positions for sample in samples]
    )


@dataclass(frozen=True)
class EvaluationReport:
    """What a run reaches on held-out tokens, and what counting reaches.

    Args:
        scores: of the model.
        bars: by name, from the weakest idea to the strongest.
        tokens: the vocabulary, for the table by token.
        sequence_targets: targets of each evaluated sequence.
        leakage: share of the sequences with a close neighbour in the training data.
        neighbours: what counts as close.
        num_too_close: held-out sequences that were left out for being close.
        direction: each token was predicted from those before it in this direction; None if
            tokens were hidden behind mask tokens.
        compared_with: the data in which neighbours were looked for.
        objectives: those of the run that were measured again in their own form, by name.
    """

    scores: MaskedScores
    bars: Mapping[str, BarResult]
    tokens: Sequence[str]
    sequence_targets: Sequence[int]
    leakage: float
    neighbours: str
    num_too_close: int
    direction: Direction | None = None
    compared_with: str = TRAINING_DATA
    objectives: Mapping[str, ObjectiveScores] = field(default_factory=dict)

    @property
    def targets(self) -> str:
        """What was predicted, for headings."""
        if self.direction is None:
            return "hidden tokens"
        return f"tokens, predicted {self.direction.replace('_', ' ')},"

    @property
    def best_bar(self) -> tuple[str, float]:
        """Name and loss, nats, of the strongest bar."""
        return min(((name, bar.loss) for name, bar in self.bars.items()), key=lambda item: item[1])

    @property
    def sequences(self) -> int:
        """Number of evaluated sequences."""
        return len(self.sequence_targets)

    @property
    def margin(self) -> tuple[float, float]:
        """Nats per target by which the model is below the best bar, and its standard error.

        The differences are paired by target and summed by sequence, because the tokens of one
        sequence are not independent. The error of a single sequence is unknown: NaN.
        """
        counts = np.array(self.sequence_targets, np.float64)
        ends = np.cumsum(self.sequence_targets)
        bar = np.concatenate([[0.0], np.cumsum(self.bars[self.best_bar[0]].nats)])
        bar_nats = bar[ends] - bar[ends - self.sequence_targets]
        gains = bar_nats - self.scores.sequence_nats.numpy()
        mean = gains.sum() / counts.sum()
        if len(counts) == 1:
            return float(mean), math.nan
        spread = np.square(gains - mean * counts).sum() * len(counts) / (len(counts) - 1)
        return float(mean), float(np.sqrt(spread) / counts.sum())

    @property
    def verdict(self) -> str:
        """One plain sentence: whether the model has learned more than counting finds."""
        name, loss = self.best_bar
        margin, error = self.margin
        bar = f"the best bar ({name}, {loss:.3f})"
        if math.isnan(error):
            side = "below" if margin > 0 else "above"
            return (
                "One sequence does not tell whether the model is better than counting: it is "
                f"{abs(margin):.3f} nats {side} {bar}, with an unknown standard error. Evaluate "
                "on more data."
            )
        measured = f"{abs(margin):.3f} ± {error:.3f} nats"
        if margin > 2 * error:
            return f"The model is {measured} below {bar}."
        if margin < 0:
            return (
                f"The model is NOT better than counting: {measured} above {bar}. Train longer, or "
                "on more data."
            )
        return (
            f"The model is NOT clearly better than counting: {measured} below {bar}, less than "
            "two standard errors. Train longer, or evaluate on more data."
        )

    @property
    def provenance(self) -> str:
        """One plain sentence on how far the sequences are from the training data."""
        left_out = f"; {self.num_too_close:,} that have were left out" if self.num_too_close else ""
        return (
            f"{self.leakage:.1%} of these sequences have {self.neighbours} in the "
            f"{self.compared_with}{left_out}."
        )

    def rows(self) -> list[tuple[str, float, float, float]]:
        """Name, loss in nats, perplexity, accuracy: the bars, then the model."""
        bars = [(name, bar.loss, bar.perplexity, bar.accuracy) for name, bar in self.bars.items()]
        model = self.scores
        return [*bars, ("model", model.loss, model.perplexity, model.accuracy)]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values; an unknown standard error is null."""
        margin, error = self.margin
        own = {name: scores.to_json() for name, scores in self.objectives.items()}
        return {
            "sequences": self.sequences,
            "targets": self.scores.targets,
            "leakage": self.leakage,
            "neighbours": self.neighbours,
            "too_close_left_out": self.num_too_close,
            "margin": {"nats": margin, "standard_error": None if math.isnan(error) else error},
            "predicted": self.direction or "masked",
            "verdict": self.verdict,
            "results": [
                {"name": name, "loss": loss, "perplexity": perplexity, "accuracy": accuracy}
                for name, loss, perplexity, accuracy in self.rows()
            ],
            "by_token": self.scores.by_token(self.tokens),
            **({"objectives": own} if own else {}),
        }
