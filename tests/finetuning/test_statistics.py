from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.finetuning.statistics import (
    Metric,
    bootstrap,
    classification_measures,
    confusion,
    f1_measures,
    ranking_measures,
    ranks,
    regression_measures,
)


def test_accuracy_and_macro_f1_by_hand() -> None:
    true, predicted = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    found = classification_measures(true, predicted, 4)
    # F1: class 0 has 2/3, class 1 has 2/4, class 2 has 0, class 3 occurs nowhere.
    assert found == pytest.approx({"accuracy": 0.5, "macro_f1": (2 / 3 + 1 / 2 + 0) / 3})


def test_confusion_has_a_row_for_each_true_class() -> None:
    table = confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    assert table.tolist() == [[1, 1], [0, 1]]


def test_micro_f1_sums_before_it_divides() -> None:
    found = f1_measures(np.array([[1, 2, 1], [0, 0, 2]]))
    assert found == pytest.approx({"f1": 2 / 5, "precision": 1 / 2, "recall": 1 / 3})


def test_nothing_predicted_and_nothing_true_has_no_nan() -> None:
    assert f1_measures(np.array([[0, 0, 0]])) == {"f1": 0, "precision": 0, "recall": 0}


def test_equal_values_share_their_mean_rank() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1, 3.5, 2]


def test_correlations_and_error_by_hand() -> None:
    true, predicted = np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0])
    found = regression_measures(true, predicted)
    assert found["spearman"] == pytest.approx(1)
    assert found["pearson"] == pytest.approx(8 / math.sqrt(2 * 98 / 3), abs=1e-9)
    assert found["rmse"] == pytest.approx(math.sqrt((0 + 4 + 36) / 3))


def test_a_constant_has_no_correlation() -> None:
    found = regression_measures(np.array([1.0, 2.0]), np.array([5.0, 5.0]))
    assert math.isnan(found["spearman"])
    assert Metric(found["spearman"], 0.0, 1.0).to_json()["value"] is None


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=20, unique=True))
def test_spearman_does_not_change_under_a_rising_function(values: list[int]) -> None:
    true = np.array(values, np.float64)
    assert regression_measures(true, np.exp(true / 50))["spearman"] == pytest.approx(1)


def test_ranking_measures_by_hand() -> None:
    found = ranking_measures([0, 2, 1], [0.9, 0.5, 0.1])
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    gain = 0 + 2 / math.log2(3) + 1 / math.log2(4)
    assert found == pytest.approx({"mrr": 0.5, "hits_at_1": 0, "ndcg": gain / ideal})


def test_equal_scores_are_ranked_pessimistically() -> None:
    assert ranking_measures([1, 0, 0], [0.0, 0.0, 0.0])["mrr"] == pytest.approx(1 / 3)


def test_the_interval_holds_the_value_and_narrows_with_more_examples() -> None:
    def interval(count: int) -> Metric:
        right = np.arange(count) % 2 == 0
        return bootstrap(
            lambda chosen: {"accuracy": float(right[chosen].mean())},
            count,
            np.random.default_rng(0),
        )["accuracy"]

    few, many = interval(20), interval(2000)
    assert few.low < few.value == 0.5 < few.high
    # Of a mean of n coins: 1.96 * 0.5 / sqrt(n) to either side.
    assert many.high - many.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(2000), rel=0.1)
    assert few.high - few.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(20), rel=0.2)


def test_one_example_has_no_interval() -> None:
    found = bootstrap(lambda chosen: {"x": 1.0}, 1, np.random.default_rng(0))["x"]
    assert found.value == 1
    assert math.isnan(found.low)
