"""Scores of variants against measured values, beside what can be had without a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from seqmlm.finetuning.statistics import IndexArray, Metric, bootstrap, correlation, ranks
from seqmlm_domains.protein.variants.scorer import VariantScore, VariantScores
from seqmlm_domains.protein.variants.site_independent import SiteIndependentModel

FloatArray = npt.NDArray[np.float64]
Substitutions = Sequence[tuple[int, str]]

BLOSUM62: Final = "BLOSUM62"
MUTATION_COUNT: Final = "number of mutations"
SITE_INDEPENDENT: Final = "site-independent"

MIN_VARIANTS: Final = 3
"""Of fewer, ranks say nothing: two always correlate by 1 or -1."""


@dataclass(frozen=True)
class VariantComparison:
    """Spearman's correlation of measured values with scores and with bars, on the same variants.

    Args:
        variants: with a measured value and a score from every predictor.
        spearman: by predictor, the model first; NaN where all its values are the same, as the
            number of mutations is among single mutants, or with less than 3 variants.
        not_compared: variants with a score that lack a measured value, or residues that moved so
            that the bars have no value.
    """

    variants: int
    spearman: dict[str, Metric]
    not_compared: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "variants": self.variants,
            "not_compared": self.not_compared,
            "spearman": {name: metric.to_json() for name, metric in self.spearman.items()},
        }


def compare(
    scores: VariantScores,
    measured: Sequence[float],
    *,
    site_independent: SiteIndependentModel | None = None,
    seed: int = 0,
) -> VariantComparison:
    """Rank variants by the model and by the bars, and compare with what was measured.

    Bars: the sum of BLOSUM62 scores of the substitutions; minus the number of mutations; and the
    site-independent model of a family, if given, alone and added to the model's score (both are
    log-odds in nats: the product of the two as experts).

    Args:
        scores: of the model.
        measured: one for each variant, higher is fitter; NaN where there is none.
        site_independent: of homologs of the same wild type.
        seed: of the bootstrap over variants, 1,000 resamples.
    """
    values = np.asarray(measured, np.float64)
    chosen = [
        index
        for index, item in enumerate(scores.items)
        if item.substitutions is not None and math.isfinite(values[index])
    ]
    variants = [scores.items[index] for index in chosen]
    true = values[chosen]
    predictors = predictions(scores, variants, site_independent)

    def measures(drawn: IndexArray) -> dict[str, float]:
        target = ranks(true[drawn])
        return {
            name: correlation(target, ranks(predicted[drawn]))
            for name, predicted in predictors.items()
        }

    if len(variants) < MIN_VARIANTS:
        found = dict.fromkeys(predictors, Metric(math.nan, math.nan, math.nan))
    else:
        found = bootstrap(measures, len(variants), np.random.default_rng(seed))
    return VariantComparison(len(variants), found, scores.num_scored - len(variants))


def predictions(
    scores: VariantScores,
    variants: Sequence[VariantScore],
    site_independent: SiteIndependentModel | None,
) -> dict[str, FloatArray]:
    """Return what model and bars say of variants, float64 ``[variants]`` by name; higher is fitter.

    Args:
        scores: tell the wild type and the method.
        variants: items of ``scores`` with a score and substitutions.
        site_independent: see :func:`compare`.
    """
    changes = [variant.substitutions or () for variant in variants]
    model = np.array([variant.score for variant in variants], np.float64)
    found = {
        scores.method: model,
        BLOSUM62: blosum62_scores(scores.wild_type, changes),
        MUTATION_COUNT: np.array([-len(change) for change in changes], np.float64),
    }
    if site_independent is not None:
        bar = np.array([site_independent.score(scores.wild_type, change) for change in changes])
        found[SITE_INDEPENDENT] = bar
        found[f"{scores.method} + {SITE_INDEPENDENT}"] = model + bar
    return found


def blosum62_scores(wild_type: str, variants: Sequence[Substitutions]) -> FloatArray:
    """Return the sum of BLOSUM62 scores of the substitutions of each variant, in half-bits."""
    from Bio.Align import substitution_matrices  # 0.3 s: only when comparing

    matrix = substitution_matrices.load("BLOSUM62")
    return np.array(
        [sum(float(matrix[wild_type[site], letter]) for site, letter in each) for each in variants],
        np.float64,
    )
