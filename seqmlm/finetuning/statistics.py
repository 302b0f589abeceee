"""Measures of labelled tasks, and how far chance could move them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmlm.readable import readable

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured value with its bootstrap interval.

    Args:
        value: on all examples.
        low: lower end of the 95 % percentile interval over resampled examples; NaN if there are
            too few to resample.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Return plain JSON values; what is not a number is null."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {name: x if math.isfinite(x) else None for name, x in numbers.items()}

    def __str__(self) -> str:
        return f"{readable(self.value)} ({readable(self.low)} to {readable(self.high)})"


@dataclass(frozen=True)
class Evaluation:
    """How a model does on labelled examples.

    Args:
        examples: how many were judged.
        metrics: by name.
        bars: the same measures of predictors that look at nothing, such as the most frequent
            label of the training data.
        details: more tables, as plain JSON values.
    """

    examples: int
    metrics: Mapping[str, Metric]
    bars: Mapping[str, float]
    details: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "examples": self.examples,
            "metrics": {name: metric.to_json() for name, metric in self.metrics.items()},
            "bars": {name: x if math.isfinite(x) else None for name, x in self.bars.items()},
            **self.details,
        }


def bootstrap(
    measures: Callable[[IndexArray], Mapping[str, float]],
    examples: int,
    generator: np.random.Generator,
) -> dict[str, Metric]:
    """Return each measure on all examples, with its percentile interval (Efron, 1979).

    Args:
        measures: computes them on chosen examples, int64 ``[n]``, in which some repeat.
        examples: number of them.
        generator: draws the resamples.
    """
    everything = np.arange(examples)
    values = measures(everything)
    drawn: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(RESAMPLES if examples > 1 else 0):
        for name, value in measures(generator.choice(everything, examples)).items():
            drawn[name].append(value)
    return {
        name: Metric(value, *_interval(np.array(drawn[name], np.float64)))
        for name, value in values.items()
    }


def _interval(drawn: FloatArray) -> tuple[float, float]:
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return math.nan, math.nan
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)


def classification_measures(
    true: IndexArray, predicted: IndexArray, classes: int
) -> dict[str, float]:
    """Return the measures of :func:`confusion_measures` for labels int64 ``[n]``."""
    return confusion_measures(confusion(true, predicted, classes))


def confusion_measures(table: IndexArray) -> dict[str, float]:
    """Return accuracy, and the mean of the F1 of all classes that are true or predicted.

    A class that occurs in neither has no F1 and does not count, as in scikit-learn.

    Args:
        table: int64 ``[classes, classes]``, see :func:`confusion`.
    """
    both = table.sum(axis=0) + table.sum(axis=1)
    f1 = 2 * np.diag(table)[both > 0] / both[both > 0]
    return {"accuracy": float(np.trace(table) / table.sum()), "macro_f1": float(f1.mean())}


def confusion(true: IndexArray, predicted: IndexArray, classes: int) -> IndexArray:
    """Return int64 ``[classes, classes]``: how often each true class was taken for each."""
    counts = np.bincount(true * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def f1_measures(counts: IndexArray) -> dict[str, float]:
    """Return micro-averaged precision, recall and F1 from counts int64 ``[n, 3]``.

    The columns are: right, predicted, true. Where nothing is predicted or true the value is 0.
    """
    right, predicted, true = counts.sum(axis=0).tolist()
    return {
        "f1": 2 * right / max(predicted + true, 1),
        "precision": right / max(predicted, 1),
        "recall": right / max(true, 1),
    }


def regression_measures(true: FloatArray, predicted: FloatArray) -> dict[str, float]:
    """Return Spearman's and Pearson's correlation and the root of the mean squared error.

    A correlation is NaN if either side is constant; ties get their mean rank.
    """
    return {
        "spearman": correlation(ranks(true), ranks(predicted)),
        "pearson": correlation(true, predicted),
        "rmse": float(np.sqrt(np.mean((true - predicted) ** 2))),
    }


def ranks(values: FloatArray) -> FloatArray:
    """Return ranks from 1, the smallest first; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: FloatArray = last - (counts - 1) / 2
    return mean[inverse]


def correlation(first: FloatArray, second: FloatArray) -> float:
    """Return Pearson's correlation, of ranks Spearman's; NaN if either side is constant."""
    left, right = first - first.mean(), second - second.mean()
    scale = math.sqrt(float(left @ left) * float(right @ right))
    return float(left @ right) / scale if scale > 0 else math.nan


def ranking_measures(relevance: Sequence[float], scores: Sequence[float]) -> dict[str, float]:
    """Return what one query's ranking is worth: reciprocal rank, hit at 1, nDCG.

    nDCG (Järvelin and Kekäläinen, 2002) over all candidates, the gain being the relevance and the
    discount log2(1 + rank). Candidates of equal score are ranked as unluckily as they can be:
    a constant scorer must not look good.
    """
    gains = np.asarray(relevance, np.float64)
    order = np.lexsort((gains, -np.asarray(scores, np.float64)))
    first = int(np.flatnonzero(gains[order] > 0)[0]) + 1
    discount = 1 / np.log2(np.arange(len(gains)) + 2)
    ideal = float(np.sort(gains)[::-1] @ discount)
    return {
        "mrr": 1 / first,
        "hits_at_1": float(first == 1),
        "ndcg": float(gains[order] @ discount) / ideal,
    }
