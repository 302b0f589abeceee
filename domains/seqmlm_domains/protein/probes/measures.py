"""How well several predictors label the same proteins, with intervals over the proteins."""

# P proteins, C classes, M labels

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmlm.finetuning.statistics import IndexArray, Metric, bootstrap

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ProbeMeasures:
    """How well one predictor does on the test proteins.

    Args:
        accuracy: share of the labels that are right.
        macro_f1: mean over the classes that are true or predicted of their F1.
        matthews: Matthews' correlation (Gorodkin 2004 for more than two classes); 0 if constant.
        behind: accuracy of the first predictor less this one's, on the same resamples; None of
            the first.
    """

    accuracy: Metric
    macro_f1: Metric
    matthews: Metric
    behind: Metric | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "accuracy": self.accuracy.to_json(),
            "macro_f1": self.macro_f1.to_json(),
            "matthews_correlation": self.matthews.to_json(),
            "accuracy_behind_first": None if self.behind is None else self.behind.to_json(),
        }


def measure(
    true: IndexArray,
    predicted: Mapping[str, IndexArray],
    proteins: IndexArray,
    *,
    seed: int,
) -> dict[str, ProbeMeasures]:
    """Judge predictors; the bootstrap draws whole proteins, whose residues depend on one another.

    Args:
        true: int64 ``[M]``.
        predicted: int64 ``[M]`` by predictor.
        proteins: int64 ``[M]``, the number of the protein of each label, from 0 without gaps.
        seed: of the bootstrap, 1,000 resamples.
    """
    occurring = np.unique(np.concatenate([true, *predicted.values()]))
    true, num_classes = np.searchsorted(occurring, true), len(occurring)
    of_true = _counts(true, proteins, num_classes)
    counted = {}
    for name, labels in predicted.items():
        said = np.searchsorted(occurring, labels)
        right = np.where(said == true, true, -1)
        counted[name] = (
            _counts(said, proteins, num_classes), _counts(right, proteins, num_classes)
        )  # fmt: skip

    def measures(drawn: IndexArray) -> dict[str, float]:
        weights = np.bincount(drawn, minlength=len(of_true)).astype(np.float64)
        found: dict[str, float] = {}
        drawn_true = weights @ of_true
        for name, (said, right) in counted.items():
            values = _measures(drawn_true, weights @ said, weights @ right)
            found |= {f"{name}/{key}": value for key, value in values.items()}
            first = found[f"{next(iter(counted))}/accuracy"]
            found[f"{name}/behind"] = first - values["accuracy"]
        return found

    drawn = bootstrap(measures, len(of_true), np.random.default_rng(seed))
    return {
        name: ProbeMeasures(
            drawn[f"{name}/accuracy"],
            drawn[f"{name}/macro_f1"],
            drawn[f"{name}/matthews"],
            drawn[f"{name}/behind"] if number else None,
        )
        for number, name in enumerate(counted)
    }


def _measures(true: FloatArray, said: FloatArray, right: FloatArray) -> dict[str, float]:
    """Of how often each class is true, said, and both; float64 ``[C]`` each."""
    labels, correct = float(true.sum()), float(right.sum())
    both = true + said
    f1 = 2 * right[both > 0] / both[both > 0]
    spread = (labels**2 - float(said @ said)) * (labels**2 - float(true @ true))
    agreement = correct * labels - float(true @ said)
    return {
        "accuracy": correct / labels,
        "macro_f1": float(f1.mean()),
        "matthews": agreement / math.sqrt(spread) if spread > 0 else 0.0,
    }


def _counts(labels: IndexArray, proteins: IndexArray, num_classes: int) -> FloatArray:
    """How often each protein has each class, float64 ``[P, C]``; -1 is not counted."""
    counts = np.zeros((int(proteins.max()) + 1, num_classes))
    is_class = labels >= 0
    np.add.at(counts, (proteins[is_class], labels[is_class]), 1.0)
    return counts
