"""seqmlm kg predict and evaluate, on a run of the trainer."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seqmlm.config import configure
from seqmlm.errors import ConfigError, DataError, SeqmlmError
from seqmlm.training.loop import train
from seqmlm_domains.kg import LinkPredictor
from seqmlm_domains.kg.commands import app
from tests.kg.conftest import NATIONS

SETTINGS = (
    "training.steps=12",
    "training.evaluate_every=6",
    "training.device=cpu",
    "training.tokens_per_batch=600",
    "model.layers=1",
    "model.hidden_size=16",
    "model.heads=2",
    "domain.entities=id",
)


@pytest.fixture(scope="module")
def nations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "nations"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMLM_CACHE", str(run.parent / "cache"))
        patch.setattr("seqmlm.training.loop.plot_run", lambda *arguments, **options: [])
        train(configure(domain="kg", sources=[str(NATIONS)], overrides=SETTINGS), run)
    return run


@pytest.fixture(autouse=True)
def _surroundings(nations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMLM_CACHE", str(nations.parent / "cache"))
    monkeypatch.setenv("COLUMNS", "160")


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, SeqmlmError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_run_records_filtered_ranks_at_every_evaluation(nations: Path) -> None:
    lines = map(json.loads, (nations / "metrics.jsonl").read_text().splitlines())
    measures = [line["measures"] for line in lines if line["split"] == "validation"]
    assert len(measures) == 2
    assert all(0 < found["mrr"] <= 1 for found in measures)
    final = json.loads((nations / "evaluation.json").read_text())["measures"]
    assert final["mrr"] == max(found["mrr"] for found in measures)


def test_predictions_are_those_of_the_predictor(nations: Path) -> None:
    options = ("--head", "brazil", "--relation", "embassy", "--device", "cpu")
    found = json.loads(call("predict", nations, *options, "--top-k", 3, "--json"))
    expected = LinkPredictor.load(nations).predict_tails("brazil", "embassy", top_k=3)
    assert [item["entity"] for item in found] == [item.entity for item in expected]
    assert found[0].keys() == {"entity", "name", "score", "probability"}


def test_relations_are_predicted_too(nations: Path) -> None:
    text = call("predict", nations, "--head", "brazil", "--tail", "usa", "--top-k", "2")
    assert "(brazil, ?, usa)" in text
    assert text.count("%") == 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (("--head", "brasil", "--relation", "embassy"), DataError, "Did you mean 'brazil'"),
        (("--head", "brazil"), ConfigError, "Give two of --head, --relation and --tail"),
        (
            ("--head", "brazil", "--relation", "embassy", "--tail", "usa"),
            ConfigError,
            "Give two of --head, --relation and --tail",
        ),
    ],
    ids=["unknown", "one", "three"],
)
def test_a_query_that_cannot_be_asked_is_refused(
    options: tuple[str, ...], error: type[SeqmlmError], message: str, nations: Path
) -> None:
    with pytest.raises(error, match=message):
        call("predict", nations, *options)


def test_the_test_triples_of_the_run_are_evaluated(nations: Path) -> None:
    found = json.loads(call("evaluate", nations, "--device", "cpu", "--json"))
    assert found["both"]["realistic"]["count"] == 2 * 201
    assert found["num_entities"] == 14
    assert set(found["by_category"]) == {"1-1", "1-N", "N-1", "N-N"}
    # Symmetry alone goes far on Nations: the bar says so.
    assert 0.5 < found["copy_the_reverse"] < 0.7
    text = call("evaluate", nations, "--device", "cpu", "--by-relation")
    for heading in ("head", "tail", "both", "optimistic", "pessimistic", "N-N", "embassy"):
        assert heading in text


def test_a_saved_predictor_needs_the_folder_of_the_test_triples(
    nations: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    LinkPredictor.load(nations).save(tmp_path / "saved")
    with pytest.raises(ConfigError, match="Give their folder with --data"):
        call("evaluate", tmp_path / "saved", "--device", "cpu")
    with caplog.at_level(logging.INFO, "seqmlm"):
        options = ("--device", "cpu", "--data", NATIONS, "--json")
        found = json.loads(call("evaluate", tmp_path / "saved", *options))
    assert found == json.loads(call("evaluate", nations, "--device", "cpu", "--json"))
