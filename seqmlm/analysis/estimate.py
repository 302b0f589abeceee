"""Means with the error that dependent observations leave."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number that was measured on a sample.

    Args:
        value: the estimate; NaN of an empty sample.
        standard_error: NaN where the sample does not tell.
    """

    value: float
    standard_error: float

    def to_json(self) -> dict[str, float | None]:
        """Return plain JSON values; JSON has no NaN, which becomes null."""
        return {
            "value": None if math.isnan(self.value) else self.value,
            "standard_error": None if math.isnan(self.standard_error) else self.standard_error,
        }

    def __str__(self) -> str:
        error = "?" if math.isnan(self.standard_error) else f"{self.standard_error:.3f}"
        return f"{self.value:.3f} ± {error}"


def clustered_mean(values: npt.ArrayLike, clusters: npt.ArrayLike) -> Estimate:
    """Return the mean of observations of which those of one cluster may depend on one another.

    The standard error is the cluster-robust one (Liang and Zeger 1986) with the factor
    clusters / (clusters - 1).

    Args:
        values: float ``[n]``.
        clusters: ``[n]``, equal within a cluster, such as the record of each observation.
    """
    observed = np.asarray(values, np.float64)
    if not len(observed):
        return Estimate(math.nan, math.nan)
    mean = float(observed.mean())
    names, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        return Estimate(mean, math.nan)
    sums = np.bincount(cluster, weights=observed - mean)
    spread = float(np.square(sums).sum()) * len(names) / (len(names) - 1)
    return Estimate(mean, math.sqrt(spread) / len(observed))
