"""Mask rate against the noise of the gradient and the difficulty of the task."""

# P parameters, R rates

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm.analysis.estimate import Estimate
from seqmlm.analysis.run import AnalysedRun, Corpus
from seqmlm.data.packing import pack
from seqmlm.errors import ConfigError, DataError
from seqmlm.inference.likelihood import TARGETS
from seqmlm.masking.corruptors import MixedCorruptor
from seqmlm.masking.policy import MaskingPolicy
from seqmlm.masking.selectors import TokenSelector
from seqmlm.objectives.rows import Row, Targets
from seqmlm.objectives.trained import require_masks

MOST_DRAWS = 100

DEFAULT_RATES = (0.02, 0.05, 0.1, 0.15, 0.3, 0.5, 0.8)


@dataclass(frozen=True)
class VarianceAtRate:
    """What gradients at one rate look like.

    Args:
        rate: share of the maskable tokens that is predicted.
        targets: mean number of predicted tokens per gradient.
        variance: trace of the covariance of the gradient of the mean loss.
        squared_norm: of the mean gradient, without bias; may be negative by chance.
        loss: mean masked loss, nats per token.
    """

    rate: float
    targets: float
    variance: Estimate
    squared_norm: Estimate
    loss: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "rate": self.rate,
            "targets_per_gradient": self.targets,
            "variance": self.variance.to_json(),
            "squared_norm_of_mean": self.squared_norm.to_json(),
            "loss_nats": self.loss.to_json(),
        }


@dataclass(frozen=True)
class VarianceCurve:
    """Gradient variance over the rates.

    Args:
        points: by increasing rate.
        slope: of log variance over log targets, least squares; -1 where the gradients of single
            tokens are independent.
        shared: part of the variance that more targets per sequence do not reduce, because the
            tokens of a sequence and its corruption share it: the intercept of variance over
            1 / targets, weighted by 1 / variance^2; NaN where a variance is 0, as is the slope.
    """

    points: tuple[VarianceAtRate, ...]
    slope: Estimate
    shared: float

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "slope_of_log_variance": self.slope.to_json(),
            "shared_variance": None if math.isnan(self.shared) else self.shared,
            "rates": [point.to_json() for point in self.points],
        }


@dataclass(frozen=True)
class MaskRateReport:
    """The study of one run.

    Args:
        corrupt_rate: share of the tokens hidden in ``fixed``.
        fixed: the same corruption at every rate; only how many of the hidden tokens are
            predicted changes.
        coupled: every hidden token is predicted, as in training: corruption grows with the rate.
        sequences: records drawn per gradient.
        gradients: at each rate.
    """

    corrupt_rate: float
    fixed: VarianceCurve
    coupled: VarianceCurve
    sequences: int
    gradients: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "corrupt_rate": self.corrupt_rate,
            "sequences_per_gradient": self.sequences,
            "gradients_per_rate": self.gradients,
            "fixed_corruption": self.fixed.to_json(),
            "coupled_corruption": self.coupled.to_json(),
        }


@dataclass(frozen=True)
class GradientPairs:
    """Running comparison of pairs of independent gradients, one entry per pair and rate.

    Args:
        half_squared_distances: half of |a - b|^2, whose mean is the variance; ``[pairs, R]``.
        products: a . b, whose mean is the squared norm of the mean gradient; ``[pairs, R]``.
        losses: mean loss of both; ``[pairs, R]``.
        targets: mean number of predicted tokens of both; ``[pairs, R]``.
    """

    half_squared_distances: npt.NDArray[np.float64]
    products: npt.NDArray[np.float64]
    losses: npt.NDArray[np.float64]
    targets: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gradient:
    """One gradient of a mean loss.

    Args:
        values: float32 ``[P]``.
        loss: nats per target.
        targets: how many tokens were predicted.
    """

    values: Tensor
    loss: float
    targets: int


def analyse_mask_rate(
    run: AnalysedRun,
    corpus: Corpus,
    *,
    rates: Sequence[float] = DEFAULT_RATES,
    sequences: int = 2,
    gradients: int = 40,
    seed: int = 0,
) -> MaskRateReport:
    """Measure the variance of the gradient, and the masked loss, at several mask rates.

    A gradient is that of the mean loss of some records drawn with replacement, uniformly masked
    with the mask token alone, with regard to all parameters of encoder and token head, without
    dropout. ``fixed`` hides the highest rate everywhere and predicts a part (the separate rates
    of Wettig et al., arXiv 2202.08005); ``coupled`` hides what it predicts. All rates of ``fixed``
    see the same records and masks, so that their differences are not noise.

    Cost: ``gradients`` x 2 R backward passes over ``sequences`` rows; memory of R + 1 gradients.

    Args:
        run: of a model that fills in masks.
        corpus: to draw from.
        rates: of the maskable tokens, two or more, in (0, 1].
        sequences: records per gradient.
        gradients: at each rate, an even number of at least 4.
        seed: of records and masks.

    Raises:
        ConfigError: the model does not fill in masks, or a number is out of range.
        DataError: too few tokens can be masked.
    """
    require_masks(run.model.trained_objectives, "The mask-rate study")
    rates = sorted(set(rates))
    _check(rates, sequences=sequences, gradients=gradients)
    generator = np.random.default_rng(seed)

    def fixed() -> list[Gradient]:
        rows = _masked_rows(run, corpus, rates[-1], sequences, generator)
        return _gradients(run, rows, [rate / rates[-1] for rate in rates], generator)

    def coupled() -> list[Gradient]:
        found = []
        for rate in rates:
            rows = _masked_rows(run, corpus, rate, sequences, generator)
            found += _gradients(run, rows, [1.0], generator)
        return found

    return MaskRateReport(
        corrupt_rate=rates[-1],
        fixed=variance_curve(rates, compare_gradients(fixed, gradients // 2)),
        coupled=variance_curve(rates, compare_gradients(coupled, gradients // 2)),
        sequences=sequences,
        gradients=gradients,
    )


def compare_gradients(draw: Callable[[], list[Gradient]], pairs: int) -> GradientPairs:
    """Draw independent gradients two by two and keep what their comparison says.

    Args:
        draw: returns one gradient per rate; calls are independent of one another.
        pairs: how many times it is called twice.
    """
    rows = []
    for _ in range(pairs):
        rows.append(
            [
                (
                    float((first.values - second.values).double().square().sum()) / 2,
                    float((first.values.double() * second.values.double()).sum()),
                    (first.loss + second.loss) / 2,
                    (first.targets + second.targets) / 2,
                )
                for first, second in zip(draw(), draw(), strict=True)
            ]
        )
    table = np.array(rows, np.float64)
    return GradientPairs(*(table[..., column] for column in range(4)))


def variance_curve(rates: Sequence[float], pairs: GradientPairs) -> VarianceCurve:
    """Summarise the pairs; the error of the slope is a jackknife over them."""
    points = [
        VarianceAtRate(
            rate,
            float(pairs.targets[:, index].mean()),
            *(
                _mean(column[:, index])
                for column in (pairs.half_squared_distances, pairs.products, pairs.losses)
            ),
        )
        for index, rate in enumerate(rates)
    ]
    count = len(pairs.targets)
    slopes = np.array(
        [_slope(pairs, np.arange(count) != left_out) for left_out in range(count)], np.float64
    )
    error = math.sqrt((count - 1) * float(np.var(slopes)))
    targets = np.array([point.targets for point in points])
    variances = np.array([point.variance.value for point in points])
    shared = math.nan
    if variances.all():
        _, shared = np.polyfit(1 / targets, variances, 1, w=1 / variances)
    slope = Estimate(_slope(pairs, np.ones(count, np.bool_)), error)
    return VarianceCurve(tuple(points), slope, float(shared))


def _slope(pairs: GradientPairs, chosen: npt.NDArray[np.bool_]) -> float:
    variances = pairs.half_squared_distances[chosen].mean(0)
    if not variances.all():  # one record, all of it hidden, leaves nothing to chance
        return math.nan
    slope, _ = np.polyfit(np.log(pairs.targets[chosen].mean(0)), np.log(variances), 1)
    return float(slope)


def _mean(values: npt.NDArray[np.float64]) -> Estimate:
    return Estimate(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))))


def _check(rates: Sequence[float], *, sequences: int, gradients: int) -> None:
    if len(rates) < 2 or not 0 < rates[0] <= rates[-1] <= 1:
        given = ", ".join(map(str, rates))
        raise ConfigError(f"rates = {given}: give two or more different ones in (0, 1].")
    if sequences < 1:
        raise ConfigError(f"sequences = {sequences}: must be at least 1.")
    if gradients < 4 or gradients % 2:
        raise ConfigError(
            f"gradients = {gradients}: must be an even number of at least 4, because gradients "
            "are compared two by two."
        )


def _masked_rows(
    run: AnalysedRun, corpus: Corpus, rate: float, sequences: int, generator: np.random.Generator
) -> list[Row]:
    """Rows with at least one target; a draw of short records without any is made again."""
    policy = MaskingPolicy(TokenSelector(), MixedCorruptor(mask=1.0, random=0.0, keep=0.0), rate)
    vocabulary = run.model.vocabulary
    for _ in range(MOST_DRAWS):
        rows = []
        for record in generator.choice(corpus.records, sequences).tolist():
            encoding = corpus.encoding(record, generator)
            masked = policy.apply(
                encoding,
                vocabulary=vocabulary,
                token_range=vocabulary.ranges[corpus.domain.name],
                generator=generator,
            )
            targets = Targets(masked.positions, encoding.ids[masked.positions])
            rows.append(Row.of(encoding, masked.ids, {TARGETS: targets}))
        if any(len(row.targets[TARGETS].positions) for row in rows):
            return rows
    raise DataError(
        f"{MOST_DRAWS} times, {sequences} records drawn at random had no token to mask at rate "
        f"{rate}. Draw more sequences per gradient, or give longer records."
    )


def _gradients(
    run: AnalysedRun,
    rows: Sequence[Row],
    shares: Sequence[float],
    generator: np.random.Generator,
) -> list[Gradient]:
    """The gradient of the mean loss over each share of the targets; larger ones hold smaller."""
    model = run.model
    batch = pack(rows).to(model.device)
    targets = batch.targets[TARGETS]
    parameters = [*model.encoder.parameters(), *model.token_head.parameters()]
    losses = model.token_head.loss(
        model(batch),
        targets.rows,
        targets.labels,
        allowed=model.allowed_tokens,
        backend=model.encoder.backend,
    )
    order = torch.from_numpy(generator.permutation(len(losses))).to(losses.device)
    found = []
    for share in shares:
        chosen = losses[order[: max(1, round(share * len(losses)))]]
        parts = torch.autograd.grad(
            chosen.mean(), parameters, retain_graph=True, materialize_grads=True
        )
        values = torch.cat([part.flatten() for part in parts])
        found.append(Gradient(values, float(chosen.detach().mean()), len(chosen)))
    return found
