"""Accuracy, F1 and AUC of yes-or-no answers, beside the majority bar."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.evaluation.decisions import ObjectiveScores, area_under_curve


def scores_of(logits: list[float], labels: list[bool]) -> ObjectiveScores:
    return ObjectiveScores(
        terms={"rtd": 50.0, "rtd.generator": 1.0},
        sums=torch.tensor([[2.0, 10.0], [9.0, 3.0]], dtype=torch.float64),
        scores=torch.tensor(logits),
        labels=torch.tensor(labels, dtype=torch.bool),
    )


def test_each_measure_by_hand() -> None:
    """Of the three yes answers two are right; one true yes is missed."""
    found = scores_of([2.0, 1.0, 0.5, -1.0, -2.0, -3.0], [True, True, False, True, False, False])
    assert found.losses == {"rtd": 0.2, "rtd.generator": 3.0}
    assert found.loss == pytest.approx(50 * 0.2 + 3)
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.majority == 0.5
    assert found.f1 == pytest.approx(2 * (2 / 3) * (2 / 3) / (2 / 3 + 2 / 3))
    assert found.auc == pytest.approx(8 / 9), "one of the nine pairs is in the wrong order"
    assert found.to_json()["decisions"] == 6
    assert "accuracy 0.667 (always the more frequent answer: 0.500)" in found.describe()


def test_the_bar_is_the_more_frequent_answer_whichever_it_is() -> None:
    assert scores_of([0.1] * 4, [True, False, False, False]).majority == 0.75
    assert scores_of([0.1] * 4, [True, True, True, False]).majority == 0.75


def test_one_answer_alone_has_no_area() -> None:
    found = scores_of([1.0, -1.0], [False, False])
    assert math.isnan(found.auc)
    assert found.to_json()["auc"] is None
    assert found.describe().endswith("AUC -")
    assert found.f1 == 0


def test_without_decisions_only_losses_are_told() -> None:
    found = scores_of([], [])
    assert found.to_json().keys() == {"loss", "losses"}
    assert found.describe() == "rtd 0.200 nats, rtd.generator 3.000 nats"


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30).filter(
        lambda pairs: len({label for _, label in pairs}) == 2
    )
)
def test_the_area_is_the_chance_that_a_true_yes_scores_higher(
    pairs: list[tuple[int, bool]],
) -> None:
    positives = [score for score, label in pairs if label]
    negatives = [score for score, label in pairs if not label]
    wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    found = area_under_curve(
        np.array([score for score, _ in pairs]), np.array([label for _, label in pairs])
    )
    assert found == pytest.approx(wins / (len(positives) * len(negatives)))
