"""Text through the command line: learn a vocabulary, train, evaluate, fill masks."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

import seqmlm
from seqmlm.cli import main


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["seqmlm", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture
def animals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every animal has its own sound."""
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    chooser = random.Random(0)
    says = {"dog": "barks", "cat": "meows", "cow": "moos", "pig": "grunts"}
    texts = [
        " ".join(f"The {animal} {says[animal]}." for animal in chooser.choices(list(says), k=8))
        for _ in range(200)
    ]
    path = tmp_path / "animals.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


SETTINGS = {
    "data.max_length": "64",
    "data.validation_fraction": "0.1",
    "model.layers": "1",
    "model.hidden_size": "32",
    "training.tokens_per_batch": "512",
    "optimizer.learning_rate": "1e-2",
    "objectives.0.policy.rate": "0.3",
}


def train(
    monkeypatch: pytest.MonkeyPatch, source: Path, run: Path, *, tokenizer: str, steps: int
) -> None:
    settings = SETTINGS | {"domain.tokenizer": tokenizer, "training.steps": str(steps)}
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    arguments = ("train", "--domain", "text", "--data", str(source), "--output", str(run))
    assert run_command(monkeypatch, *arguments, *overrides) == 0


def test_a_character_model_learns(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(monkeypatch, animals, tmp_path / "run", tokenizer="character", steps=150)
    model = seqmlm.load(str(tmp_path / "run"))
    best = model.fill_mask("The cow m[MASK]os. The cat meows.", top_k=1)[0][0]
    assert best.token == "o"
    assert best.probability > 0.25


@pytest.mark.parametrize("tokenizer", ["bpe", "wordpiece", "unigram"])
def test_a_run_learns_its_vocabulary_once_and_keeps_it(
    tokenizer: str,
    animals: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    train(monkeypatch, animals, run, tokenizer=tokenizer, steps=3)
    assert run_command(monkeypatch, "evaluate", str(run), "--json") == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    names = [row["name"] for row in report["results"]]
    assert names == ["unigram", "composition", "composition + context", "model"]
    assert len(list((tmp_path / "cache" / "stores").iterdir())) == 1, "tokenised a second time"
    fillings = seqmlm.load(str(run)).fill_mask("The [MASK] meows. The [MASK].", top_k=3)
    assert [len(proposals) for proposals in fillings] == [3, 3]
