"""The command score: what the columns say, and agreement with analyse pseudo-likelihood."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from seqmlm.analysis.pseudo_likelihood import analyse_pseudo_likelihood
from seqmlm.analysis.run import open_run
from seqmlm.cli import app
from seqmlm.domain import build_domain
from seqmlm.errors import ConfigError, DataError
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Direction, TrainedObjective

Folder = Callable[..., Path]


@pytest.fixture
def saved(build_model: Callable[..., Model], tmp_path: Path) -> Folder:
    """Save a protein model that was trained with some objectives."""

    def save(*objectives: TrainedObjective, **options: Any) -> Path:
        model = build_model(build_domain({"name": "protein"}), **options)
        model.trained_objectives = objectives
        model.save(tmp_path / "model")
        return tmp_path / "model"

    return save


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "a.fasta"
    path.write_text(">a\nMKTAYIAK\n>b\nQRQ\n")
    return path


def printed(*arguments: object) -> list[str]:
    line = ["-q", *map(str, arguments)]
    return CliRunner().invoke(app, line, catch_exceptions=False).stdout.splitlines()


@pytest.mark.parametrize(
    ("objectives", "kind", "tokens"),
    [
        ([], "pseudo_", [8, 3]),
        ([("mlm", None)], "pseudo_", [8, 3]),
        ([("clm", "left_to_right"), ("mlm", None)], "pseudo_", [8, 3]),
        ([("clm", "left_to_right")], "", [8, 3]),
        ([("clm", "right_to_left")], "", [8, 3]),
        ([("prefix_lm", "left_to_right")], "", [8, 3]),
    ],
    ids=["no record", "mlm", "both", "clm", "backwards", "prefix_lm"],
)
def test_the_columns_say_which_likelihood_and_the_analysis_has_the_same(
    saved: Folder,
    fasta: Path,
    objectives: list[tuple[str, Direction | None]],
    kind: str,
    tokens: list[int],
) -> None:
    folder = saved(*(TrainedObjective(name, way, None) for name, way in objectives))
    rows = [json.loads(line) for line in printed("score", folder, fasta, "--json")]
    header, *lines = printed("score", folder, fasta)
    assert header.split("\t") == list(rows[0])
    assert list(rows[0]) == ["name", "scored_tokens", f"{kind}log_likelihood", f"{kind}perplexity"]
    assert [line.split("\t")[0] for line in lines] == ["a", "b"]
    analysed = analyse_pseudo_likelihood(open_run(folder, device="cpu"), [str(fasta)]).records
    assert [row["scored_tokens"] for row in rows] == tokens
    found = [row[f"{kind}log_likelihood"] for row in rows]
    assert found == pytest.approx([record.log_likelihood for record in analysed], abs=1e-4)


def test_no_header_stands_above_an_error(saved: Folder, fasta: Path, tmp_path: Path) -> None:
    """Failed before: the header was printed before the first record was read."""
    command = ["score", str(saved()), str(tmp_path / "missing.fasta")]
    outcome = CliRunner().invoke(app, command)
    assert isinstance(outcome.exception, DataError)
    assert outcome.stdout == ""
    rtd = TrainedObjective("rtd", None, None, predicts_tokens=False)
    outcome = CliRunner().invoke(app, ["score", str(saved(rtd)), str(fasta)])
    assert isinstance(outcome.exception, ConfigError)
    assert outcome.stdout == ""


@pytest.mark.parametrize(
    "command", ["score", "analyse surprisal", "analyse pseudo-likelihood"], ids=str
)
def test_a_record_longer_than_the_learned_positions_is_named(
    saved: Folder, fasta: Path, command: str
) -> None:
    """Failed before: the message told neither file nor record."""
    folder = saved(positions="learned", max_positions=9)
    outcome = CliRunner().invoke(app, ["-q", *command.split(), str(folder), str(fasta)])
    assert isinstance(outcome.exception, DataError)
    assert "a.fasta, record 1 (a): 10 tokens, special tokens included" in str(outcome.exception)
