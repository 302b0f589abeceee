"""seqmlm kg predict and evaluate, on a run of the trainer."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seqmlm.config import configure
from seqmlm.errors import ConfigError, DataError, SeqmlmError
from seqmlm.training.loop import train
from seqmlm_domains.kg import LinkPredictor
from seqmlm_domains.kg.commands import app
from seqmlm_domains.kg.entity_types import read_entity_types
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


def test_ranks_fit_a_terminal_of_80_columns(nations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels were cut: optimi..., pessim..."""
    monkeypatch.setenv("COLUMNS", "80")
    text = call("evaluate", nations, "--device", "cpu", "--by-relation")
    for label in ("optimistic", "pessimistic", "mean rank", "AMRI", "commonbloc1"):
        assert label in text
    assert "\u2026" not in text


def test_scoring_is_chosen_on_the_command_line(nations: Path, tmp_path: Path) -> None:
    options = ("predict", nations, "--head", "brazil", "--relation", "embassy", "--json")
    plain, other = call(*options), call(*options, "--normalise", "pmi")
    assert json.loads(plain) != json.loads(other)
    assert call(*options) == plain, "a choice is not kept"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("types.json", '{"usa": ["west"], "uk": ["west", "europe"], "china": ["east"]}'),
        ("types.tsv", "usa\twest\nuk\twest\teurope\nchina\teast\n"),
        ("types.csv", "usa,west\nuk,europe\nuk,west\nchina,east\n"),
    ],
)
def test_answers_are_restricted_to_a_type_from_a_file(
    name: str, content: str, nations: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    options = ("--head", "brazil", "--relation", "embassy", "--types", tmp_path / name)
    found = json.loads(call("predict", nations, *options, "--type", "west", "--json"))
    assert {item["entity"] for item in found} == {"usa", "uk"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", "usa\twest\nuk\n", "line 2: .* identifier TAB type"),
        ("t.json", '{"usa": "west"}', "identifiers to lists of types"),
    ],
)
def test_a_file_that_holds_no_types_is_refused(
    name: str, content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_entity_types(tmp_path / name)


def test_a_score_is_explained_on_the_command_line(nations: Path) -> None:
    triple = ("--head", "brazil", "--relation", "embassy", "--tail", "usa")
    found = json.loads(call("explain", nations, *triple, "--json"))
    parts = [token["weight"] * token["log_likelihood"] for token in found["tokens"]]
    assert sum(parts) == pytest.approx(found["score"], abs=1e-6)
    text = call("explain", nations, *triple, "--missing", "head")
    assert "head of (brazil, embassy, usa)" in text
    assert "entity:brazil" in text


def test_an_entity_is_added_to_a_copy_of_a_predictor(
    nations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqmlm.training.loop.plot_run", lambda *arguments, **options: [])
    with pytest.raises(ConfigError, match=r"domain\.entities = 'id'"):
        call("add-entity", nations, "atlantis", "--output", tmp_path / "more")
    settings = {"domain.entities": "tokens", "domain.vocabulary_size": 300, "training.steps": 1}
    small = {"model.layers": 1, "model.hidden_size": 16, "training.device": "cpu"}
    triples = [("a", "r", "b"), ("b", "r", "c")]
    LinkPredictor.fit(triples, validation=[], settings=settings | small, output=tmp_path / "run")
    call("add-entity", tmp_path / "run", "d", "--name", "Dee", "--output", tmp_path / "more")
    assert LinkPredictor.load(tmp_path / "more").entities == ("a", "b", "c", "d")
    assert LinkPredictor.load(tmp_path / "run").entities == ("a", "b", "c")


def test_a_test_triple_of_an_unknown_relation_is_named_with_its_line(
    nations: Path, tmp_path: Path
) -> None:
    (tmp_path / "train.txt").write_text("brazil\tembassy\tusa\n")
    (tmp_path / "test.txt").write_text("brazil\tembassy\tusa\nusa\tembasy\tuk\n")
    with pytest.raises(DataError, match=r"test\.txt, line 2: .*'embasy'.* Did you mean 'embassy'"):
        call("evaluate", nations, "--data", tmp_path, "--device", "cpu")


def test_what_a_run_needs_is_fitted_once(
    nations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command calibrated anew."""
    run = tmp_path / "run"
    shutil.copytree(nations, run, ignore=shutil.ignore_patterns("predictor"))
    first = LinkPredictor.load(run)

    def not_again(*arguments: object, **options: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        for name in ("calibrate_entities", "calibrate_relations"):
            patch.setattr(f"seqmlm_domains.kg.predictor.{name}", not_again)
        second = LinkPredictor.load(run)
        assert LinkPredictor.load(run / "model").calibration == first.calibration
    assert second.calibration == first.calibration
    assert second.predict_tails("brazil", "embassy") == first.predict_tails("brazil", "embassy")
    settings = json.loads((run / "predictor" / "predictor.json").read_text())
    settings["model_sha256"] = "of another model"
    (run / "predictor" / "predictor.json").write_text(json.dumps(settings))
    assert LinkPredictor.load(run).calibration == first.calibration
    again = json.loads((run / "predictor" / "predictor.json").read_text())
    assert again["model_sha256"] != "of another model"
