"""Dialogues through the command line: from TOML alone to an answer."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

import seqmlm
from seqmlm.cli import main
from seqmlm.config import configure
from seqmlm.data.report import ReadReport
from seqmlm.domain import build_domain

CONFIG = Path(__file__).parents[2] / "configs" / "tiny" / "dialogue.toml"


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["seqmlm", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture
def greetings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whoever is greeted greets back; one dialogue cannot be used."""
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    chooser = random.Random(0)
    answers = {"hi": "hello", "bye": "so long"}
    path = tmp_path / "greetings.jsonl"
    with path.open("w") as file:
        for _ in range(80):
            said = chooser.choice(list(answers))
            name = "".join(chooser.choices("abcdefgh", k=4))
            turns = [
                {"speaker": "A", "text": f"{said} {name}"},
                {"speaker": "B", "text": answers[said]},
            ]
            file.write(json.dumps({"turns": turns}) + "\n")
        file.write('{"turns": [{"speaker": "A", "text": "hi"}]}\n')
    return path


def test_a_run_on_dialogues_learns_to_respond(
    greetings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    arguments = ("train", "--config", str(CONFIG), "--data", str(greetings), "--output", str(run))
    shorter = ("--set", "training.steps=60", "--set", "model.layers=1")
    assert run_command(monkeypatch, *arguments, *shorter) == 0
    dropped = "dropped: dialogue of fewer than two turns with text: 1"
    assert dropped in (run / "train.log").read_text()
    capfd.readouterr()
    assert run_command(monkeypatch, "evaluate", str(run), "--json") == 0
    report = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert report["predicted"] == "left_to_right"
    loss = {row["name"]: row["loss"] for row in report["results"]}
    assert loss["model"] < 0.5 * loss["bigram"]
    model = seqmlm.load(str(run))
    ((answer,),) = model.generate(["bye abcd\n"], temperature=0, max_tokens=12)
    assert (answer.text.strip(), answer.is_finished) == ("so long", True)


@pytest.mark.parametrize("roles", [1, 3])
def test_a_table_of_roles_that_does_not_fit_is_refused_before_training(
    roles: int,
    greetings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = ("train", "--config", str(CONFIG), "--data", str(greetings))
    output = ("--output", str(tmp_path / "run"), "--set", f"model.roles={roles}")
    assert run_command(monkeypatch, *arguments, *output) == 2
    shown = " ".join(capfd.readouterr().err.split())
    assert f"model.roles = {roles}, but domain 'dialogue' tells 2 roles apart" in shown


def test_the_defaults_train_with_prefix_lm_and_roles() -> None:
    config = configure(domain="dialogue", sources=["talk.jsonl"])
    assert [objective.name for objective in config.objectives] == ["prefix_lm"]
    assert (config.model.roles, config.model.segments) == (4, 2)


def test_without_data_the_bundled_plays_are_trained_on() -> None:
    config = configure(domain="dialogue")
    (source,) = config.data.sources
    records = list(build_domain(config.domain.model_dump()).read([source], ReadReport()))
    assert len(records) > 100
    assert json.loads(records[0].content)[1] == ["All", "Speak, speak."]
