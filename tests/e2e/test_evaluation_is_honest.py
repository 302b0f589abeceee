"""What a run was trained on is never passed off as held out, and chance is not called learning."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqmlm.evaluation.bars import BarResult
from seqmlm.evaluation.masked import MaskedScores
from seqmlm.evaluation.report import EvaluationReport

Cli = Callable[..., Any]


@pytest.fixture
def own_data(train: Cli, tiny_fasta: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A run, and the file it was trained on, which the test may change."""
    data, run = tmp_path / "data.fasta", tmp_path / "run"
    data.write_text(tiny_fasta.read_text())
    assert train(run, "--steps", 2, "--set", f"data.sources=['{data}']").exit_code == 0
    return run, data


def test_evaluation_is_refused_when_the_data_have_changed(
    cli: Cli, own_data: tuple[Path, Path]
) -> None:
    """Failed before: the changed file was split afresh, and training records were scored."""
    run, data = own_data
    data.write_text(data.read_text() + ">new\nMKTAYIAKQRQISFVKSHFSRQ\n")
    outcome = cli("evaluate", run)
    assert outcome.exit_code == 3
    assert "the data is no longer what the run trained on" in outcome.stderr


def test_evaluation_of_the_training_file_says_that_it_was_trained_on(
    cli: Cli, own_data: tuple[Path, Path]
) -> None:
    """Failed before: it was called held out, and no leakage was printed."""
    run, data = own_data
    report = json.loads(cli("evaluate", run, "--data", data, "--json").stdout)
    assert report["leakage"] > 0.8
    assert report["neighbours"] == "an identical copy"


def test_a_run_on_standard_input_can_be_evaluated_and_resumed(
    cli: Cli, tiny_config: str, tiny_fasta: Path, tmp_path: Path
) -> None:
    """Failed before: the configuration kept '-', which is empty the second time."""
    run = tmp_path / "run"
    command = ("train", "--config", tiny_config, "--data", "-", "--output", run, "--steps", 4)
    assert cli(*command, stdin=tiny_fasta.read_bytes()).exit_code == 0
    assert cli("evaluate", run).exit_code == 0
    assert cli("train", "--resume", "--output", run, "--steps", 6).exit_code == 0


def report_of(model_nats: list[list[float]], bar_nats: list[list[float]]) -> EvaluationReport:
    """A report on sequences whose targets have the given losses."""
    flat = [nats for sequence in model_nats for nats in sequence]
    table = torch.zeros(4, 3, dtype=torch.float64)
    table[0] = torch.tensor([len(flat), sum(flat), 0.0])
    bar = np.array([nats for sequence in bar_nats for nats in sequence])
    return EvaluationReport(
        scores=MaskedScores(table, torch.tensor([sum(s) for s in model_nats], dtype=torch.float64)),
        bars={"unigram": BarResult(bar, np.zeros(len(bar), np.bool_))},
        tokens="ABCD",
        sequence_targets=[len(sequence) for sequence in model_nats],
        leakage=0.0,
        neighbours="an identical copy",
        num_too_close=3,
    )


def test_margin_and_standard_error_are_those_of_the_paired_sequence_sums() -> None:
    report = report_of([[1.0, 2.0], [3.0], [1.0]], [[2.0, 3.0], [3.5], [1.0]])
    # Gains 2, 0.5 and 0 over 2, 1 and 1 targets: mean 2.5 / 4; residuals .75, -.125, -.625.
    residuals = np.array([2 - 2 * 0.625, 0.5 - 0.625, 0 - 0.625])
    error = np.sqrt((residuals**2).sum() * 3 / 2) / 4
    assert report.margin == pytest.approx((0.625, error))


@pytest.mark.parametrize(("bar", "side"), [(2.5, "0.500 nats below"), (1.5, "0.500 nats above")])
def test_the_error_of_a_single_sequence_is_unknown(bar: float, side: str) -> None:
    report = report_of([[2.0, 2.0]], [[bar, bar]])
    assert math.isnan(report.margin[1])
    assert side in report.verdict
    assert "unknown standard error" in report.verdict
    assert "±" not in report.verdict
    assert report.to_json()["margin"] == {"nats": bar - 2.0, "standard_error": None}


@pytest.mark.parametrize(
    ("gain", "noise", "words"),
    [
        (0.5, 0.01, "nats below the best bar"),
        (0.06, 0.5, "NOT clearly better than counting"),
        (-0.5, 0.01, "NOT better than counting"),
    ],
    ids=["clear", "within the noise", "worse"],
)
def test_verdict_says_no_more_than_the_numbers_do(gain: float, noise: float, words: str) -> None:
    drawn = np.random.default_rng(0).normal(2.5 - gain, noise, size=(20, 5))
    report = report_of(drawn.tolist(), [[2.5] * 5] * 20)
    assert words in report.verdict
    assert "3 that have were left out" in report.provenance
