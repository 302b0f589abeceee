"""Means and their errors, by hand."""

from __future__ import annotations

import math

import pytest

from seqmlm.analysis.estimate import Estimate, clustered_mean


def test_with_a_cluster_each_the_error_is_that_of_the_mean() -> None:
    found = clustered_mean([1, 2, 3, 4], [0, 1, 2, 3])
    assert found.value == 2.5
    assert found.standard_error == pytest.approx(math.sqrt(5 / 3) / 2)


def test_copies_within_a_cluster_add_no_information() -> None:
    """Two clusters whose members agree are two observations: 1 and 3, error sqrt(2) / sqrt(2)."""
    found = clustered_mean([1, 1, 3, 3], ["a", "a", "b", "b"])
    assert found.value == 2.0
    assert found.standard_error == pytest.approx(1.0)


@pytest.mark.parametrize(("values", "mean"), [([], math.nan), ([2.0, 4.0], 3.0)])
def test_one_cluster_does_not_tell_its_error(values: list[float], mean: float) -> None:
    found = clustered_mean(values, ["a"] * len(values))
    assert found.value == pytest.approx(mean, nan_ok=True)
    assert math.isnan(found.standard_error)


def test_json_has_null_for_what_is_unknown() -> None:
    assert Estimate(1.0, math.nan).to_json() == {"value": 1.0, "standard_error": None}
    assert str(Estimate(1.0, math.nan)) == "1.000 ± ?"
