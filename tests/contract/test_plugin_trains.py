"""A domain that lives in one file outside the project trains, fills masks and scores."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

import seqmlm
from seqmlm.cli import main

PLUGINS = Path(__file__).parents[1] / "plugins"


@pytest.fixture
def melodies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scales from random notes upwards: what follows a note is certain."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    chooser = random.Random(0)
    scale = "CDEFGAB" * 4
    starts = [chooser.randrange(7) for _ in range(200)]
    path = tmp_path / "melodies.txt"
    path.write_text("".join(scale[s : s + 8 + s] + "\n" for s in starts))
    return path


@pytest.mark.parametrize("name", ["music", "seqmlm_music:MusicDomain"])
def test_plugin_domain_trains_and_is_used_like_a_built_in_one(
    name: str, melodies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    arguments = ["train", "--domain", name, "--data", str(melodies), "--output", str(run)]
    settings = [
        "data.split=random",
        "data.validation_fraction=0.1",
        "training.steps=300",
        "training.tokens_per_batch=400",
        "optimizer.learning_rate=1e-2",
    ]
    for setting in settings:
        arguments += ["--set", setting]
    monkeypatch.setattr(sys, "argv", ["seqmlm", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0

    model = seqmlm.load(str(run))
    best = model.fill_mask("CDE_GAB", top_k=1)[0][0]
    assert best.token == "F"
    assert best.probability > 0.5
    in_order, shuffled = model.pseudo_log_likelihood(["CDEFGABC", "FACBDGEC"])
    assert in_order > shuffled + 3
