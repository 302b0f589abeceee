"""Ranking the records of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seqmlm.analysis.pseudo_likelihood import analyse_pseudo_likelihood
from seqmlm.analysis.run import AnalysedRun
from seqmlm.errors import DataError

Runs = Callable[..., AnalysedRun]
TEXTS = {"a": "some words", "b": "zz", "c": "the fox. jumps", "d": "..."}


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{name}\t{text}\n" for name, text in TEXTS.items()))
    return str(path)


def test_records_are_ranked_by_what_the_model_says_per_token(analysed: Runs, source: str) -> None:
    run = analysed()
    report = analyse_pseudo_likelihood(run, [source])
    totals = dict(
        zip("abc", run.model.pseudo_log_likelihood(list(TEXTS.values())[:3]), strict=True)
    )
    found = {record.name: record.log_likelihood for record in report.records}
    assert found == pytest.approx(totals, abs=1e-4)
    tokens = {"a": 9, "b": 2, "c": 11}
    expected = sorted("abc", key=lambda name: totals[name] / tokens[name])
    assert [record.name for record in report.least_likely] == expected
    assert report.unscored == 1
    content = report.to_json()
    assert content["least_likely_first"][0]["place"].startswith(source)
    assert content["quantiles_nats_per_token"]["0.0"] == report.least_likely[0].per_token


def test_a_causal_run_gives_log_likelihoods(analysed: Runs, source: str) -> None:
    report = analyse_pseudo_likelihood(analysed(direction="left_to_right"), [source])
    assert report.to_json()["predicted_from"] == "the tokens before it"
    assert [record.tokens for record in report.records] == [9, 2, 11]


def test_a_file_without_a_token_to_score_is_refused(analysed: Runs, tmp_path: Path) -> None:
    (tmp_path / "dots.txt").write_text("...\n")
    with pytest.raises(DataError, match="no record holds a token that can be scored"):
        analyse_pseudo_likelihood(analysed(), [str(tmp_path / "dots.txt")])
