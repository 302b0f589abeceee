from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pytest
import torch

from seqmlm.cli.tables import MOST_TOKENS, print_evaluation
from seqmlm.evaluation.bars import BarResult
from seqmlm.evaluation.decisions import ObjectiveScores
from seqmlm.evaluation.masked import MaskedScores
from seqmlm.evaluation.report import EvaluationReport


def printed(
    tokens: list[str],
    capsys: pytest.CaptureFixture[str],
    objectives: Mapping[str, ObjectiveScores] = MappingProxyType({}),
) -> str:
    """The tables of a model that meets each token once more than the one before it."""
    counts = torch.arange(1, len(tokens) + 1, dtype=torch.float64)
    num_targets = int(counts.sum())
    bar = BarResult(np.ones(num_targets), np.zeros(num_targets, np.bool_))
    report = EvaluationReport(
        scores=MaskedScores(torch.stack([counts, counts, counts], 1), counts),
        bars={"unigram": bar},
        tokens=tokens,
        sequence_targets=counts.int().tolist(),
        leakage=0.0,
        neighbours="identical",
        num_too_close=0,
        objectives=objectives,
    )
    print_evaluation(report, by_token=True)
    return capsys.readouterr().out


def test_tokens_of_brackets_and_blanks_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Brackets are markup to the table: [/] raised an error, [bold] vanished."""
    output = printed(["[/]", "[bold]", "\n", " ", "word"], capsys)
    for shown in ("[/]", "[bold]", r"'\n'", "' '", "word"):
        assert f" {shown} " in output


def test_of_many_tokens_the_most_frequent_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    output = printed([f"token{number:04}" for number in range(1200)], capsys)
    assert "40 most frequent of 1,200" in " ".join(output.split())
    assert output.count("token1") == MOST_TOKENS
    assert "token1199" in output


def test_the_parts_of_a_mixture_stand_beside_their_bars(capsys: pytest.CaptureFixture[str]) -> None:
    causal = ObjectiveScores(
        terms={"clm": 1.0},
        sums=torch.tensor([[30.0, 10.0]], dtype=torch.float64),
        scores=torch.empty(0),
        labels=torch.empty(0, dtype=torch.bool),
        bars={"unigram": 4.0, "bigram": 3.5},
    )
    output = " ".join(printed(["a"], capsys, {"clm": causal}).split())
    assert "clm in its own form: clm 3.000 nats (best bar: bigram, 3.500)" in output
