from __future__ import annotations

import math

import pytest

from seqmlm.cli.finetuning_tables import print_evaluations
from seqmlm.finetuning.statistics import Evaluation, Metric


def test_one_example_has_no_interval(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"mrr": Metric(0.5, math.nan, math.nan), "ndcg": Metric(0.25, 0.125, 0.375)}
    print_evaluations({"validation": Evaluation(1, metrics, bars={}, details={})})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    (without,) = (row for row in rows if "mrr" in row)
    (found,) = (row for row in rows if "ndcg" in row)
    assert "-" in without
    assert "nan" not in without
    assert {"0.1250", "to", "0.3750"} <= set(found)
