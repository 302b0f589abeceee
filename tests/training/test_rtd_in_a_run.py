"""ELECTRA through the trainer: what is measured, resumed and exported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from seqmlm.cli import app
from seqmlm.config import RunConfig, validate
from seqmlm.config import configure as configuration
from seqmlm.errors import ConfigError, RunFolderError
from seqmlm.evaluation.run import evaluate_run
from seqmlm.finetuning import configure_finetuning, finetune
from seqmlm.model.model import Model
from seqmlm.training.loop import train
from seqmlm.training.rehearsal import rehearse

PLUGINS = Path(__file__).parents[1] / "plugins"
CONFIGS = Path(__file__).parents[2] / "configs"

Configure = Callable[..., RunConfig]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Make a small run on melodies: scales from random notes upwards."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    starts = np.random.default_rng(0).integers(7, size=60).tolist()
    melodies = tmp_path / "melodies.txt"
    melodies.write_text("".join(("CDEFGAB" * 3)[s : s + 9 + s] + "\n" for s in starts))

    def build(*names: str, **training: Any) -> RunConfig:
        fixed = {"steps": 6, "checkpoint_every": 3, "evaluate_every": 3, "log_every": 1}
        return validate(
            {
                "domain": {"name": "music"},
                "data": {
                    "sources": [str(melodies)],
                    "split": "random",
                    "validation_fraction": 0.2,
                },
                "model": {"layers": 1, "hidden_size": 16, "heads": 2, "dropout": 0.1},
                "objectives": [{"name": name} for name in names],
                "training": {"tokens_per_batch": 200, "device": "cpu", **fixed, **training},
            }
        )

    return build


def evaluation_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return content


def validation_losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["split"] == "validation"]


def test_a_run_of_rtd_alone_is_judged_by_detection_and_not_by_tokens(
    configure: Configure, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    result = train(configure("rtd"), folder)
    assert result.report is None
    found = evaluation_of(folder)
    assert list(found) == ["objectives"], "no bars of predicted tokens"
    found = found["objectives"]["rtd"]
    assert set(found["losses"]) == {"rtd", "rtd.generator"}
    assert found["loss"] == pytest.approx(
        50 * found["losses"]["rtd"] + found["losses"]["rtd.generator"]
    )
    assert {"accuracy", "majority", "f1", "auc"} <= found.keys()
    assert validation_losses(folder)[-1] == pytest.approx(found["loss"])
    with pytest.raises(ConfigError, match="rtd predicts no tokens"):
        evaluate_run(folder, data=[], device="cpu", backend="auto", tokens_per_batch=500)
    command = ["-q", "evaluate", str(folder)]
    shown = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert "Recorded at the end of training" in shown
    assert f"{found['auc']:.3f}" in shown
    content = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert content == {"recorded_at_the_end_of_training": evaluation_of(folder)}
    (folder / "evaluation.json").unlink()
    assert isinstance(CliRunner().invoke(app, command).exception, RunFolderError)


def test_beside_mlm_the_tokens_are_evaluated_as_ever(configure: Configure, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    report = train(configure("rtd", "mlm"), folder).report
    assert report is not None
    found = evaluation_of(folder)
    assert validation_losses(folder)[-1] == found["results"][-1]["loss"]
    assert found["objectives"].keys() == {"rtd"}
    again = evaluate_run(folder, data=[], device="cpu", backend="auto", tokens_per_batch=500)
    assert again.scores.loss == pytest.approx(report.scores.loss)
    (score,) = Model.load(folder).pseudo_log_likelihood(["CDEFGAB"])
    assert score < 0


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_resumed_run_is_the_unbroken_run(
    configure: Configure, tmp_path: Path, micro_batches: int
) -> None:
    """With dropout; samples depend on nothing that is not in the checkpoint."""
    config, folder = configure("rtd", micro_batches=micro_batches), tmp_path / "run"
    train(config, folder)
    expected = Model.load(folder).fingerprint(), evaluation_of(folder), validation_losses(folder)
    newest = max((folder / "checkpoints").iterdir())
    assert newest.name == "step-00000006"
    shutil.rmtree(newest)
    train(config, folder, resume=True)
    found = Model.load(folder).fingerprint(), evaluation_of(folder), validation_losses(folder)
    assert found == expected


def test_the_exported_model_loads_without_the_generator(
    configure: Configure, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    train(configure("rtd"), folder)
    model = Model.load(folder)
    assert not model.objective_modules
    assert not any("rtd" in name or "generator" in name for name in model.state_dict())
    assert model.embed(["CDEF", "GAB"]).shape == (2, 16)
    with pytest.raises(ConfigError, match="trained by rtd alone"):
        model.fill_mask("CDE")


def test_the_exported_model_can_be_fine_tuned(configure: Configure, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(configure("rtd"), folder)
    examples = [("CDEFGAB", "up"), ("BAGFEDC", "down"), ("DEFGA", "up"), ("AGFED", "down")] * 5
    data = tmp_path / "labelled.csv"
    data.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in examples))
    config = configure_finetuning(
        folder,
        task="classification",
        data={"train": str(data), "test": str(data)},
        overrides=["training.epochs=1", "data.validation_fraction=0.0", "training.device=cpu"],
    )
    found = finetune(config, tmp_path / "finetuned").evaluations["test"]
    assert found.examples == len(examples)
    assert 0 <= found.metrics["accuracy"].value <= 1


@pytest.mark.parametrize("name", ["electra.toml", "tiny/electra.toml"])
def test_the_named_runs_are_valid(name: str) -> None:
    config = configuration(domain=None, sources=["text.txt"], files=[CONFIGS / name])
    (section,) = config.objectives
    assert section.name == "rtd"
    assert config.model.hidden_size % config.model.heads == 0


def test_a_rehearsal_shows_both_losses(configure: Configure) -> None:
    (line,) = [line for line in rehearse(configure("rtd")) if line.startswith("untrained loss")]
    assert "rtd 0.69" in line or "rtd 0.7" in line, "an untrained discriminator: log 2"
    assert "rtd.generator" in line
