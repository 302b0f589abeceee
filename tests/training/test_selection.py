"""Which model a run exports, and when it stops looking for a better one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from seqmlm.config import RunConfig, validate
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.errors import CheckpointError
from seqmlm.model.model import Model
from seqmlm.registry import DOMAINS
from seqmlm.training.loop import TrainingRun, train
from seqmlm.training.selection import Selection

PLUGINS = Path(__file__).parents[1] / "plugins"
SCRIPT = [1.0, 3.0, 2.0, 5.0, 4.0, 4.5, 4.0, 3.0]
"""The measure at steps 1, 2, ... 8: the best is at step 4."""

Configure = Callable[..., RunConfig]


class Killed(Exception):
    """Ends a run as a kill would: nothing is saved."""


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("seqmlm.training.loop.plot_run", lambda *arguments, **options: [])
    starts = np.random.default_rng(0).integers(7, size=16).tolist()
    melodies = tmp_path / "melodies.txt"
    melodies.write_text("".join(("CDEFGAB" * 3)[s : s + 9 + s] + "\n" for s in starts))

    def build(**training: Any) -> RunConfig:
        settings = {
            "steps": 8,
            "tokens_per_batch": 200,
            "evaluate_every": 1,
            "checkpoint_every": 3,
            "device": "cpu",
        }
        return validate(
            {
                "domain": {"name": "music"},
                "data": {
                    "sources": [str(melodies)],
                    "split": "random",
                    "validation_fraction": 0.2,
                },
                "model": {"layers": 1, "hidden_size": 16, "heads": 2},
                "optimizer": {"warmup_steps": 0},
                "training": settings | training,
            }
        )

    return build


@pytest.fixture
def judged(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Let the domain judge models as in the script; returns the fingerprints in their order."""
    music = DOMAINS.load("music")
    seen: dict[str, int] = {}

    def measure(
        self: Domain,
        model: Model,
        store: TokenStore,
        records: npt.NDArray[np.int64],
        *,
        max_length: int,
    ) -> Mapping[str, float]:
        return {"taste": SCRIPT[seen.setdefault(model.fingerprint(), len(seen))]}

    monkeypatch.setattr(music, "selection_measure", "taste")
    monkeypatch.setattr(music, "validation_measures", measure)
    return seen


def exported(folder: Path) -> str:
    return Model.load(folder).fingerprint()


def validation_lines(folder: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["split"] == "validation"]


def numbers(folder: Path) -> list[str]:
    """The metrics without the time they took."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [json.dumps(line | {"seconds": 0}) for line in lines]


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = TrainingRun._step

    def stepped(self: TrainingRun, *arguments: Any) -> None:
        trained(self, *arguments)
        if self.state.step == step:
            raise Killed

    monkeypatch.setattr(TrainingRun, "_step", stepped)


@pytest.mark.parametrize(("select", "index"), [("best", 3), ("last", 7)])
def test_the_exported_model_is_the_selected_one(
    select: str, index: int, configure: Configure, judged: dict[str, int], tmp_path: Path
) -> None:
    result = train(configure(select=select), tmp_path / "run")
    assert judged[exported(tmp_path / "run")] == index
    assert result.measures == {"taste": SCRIPT[index]}
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation["measures"] == {"taste": SCRIPT[index]}


def test_measures_are_in_the_metrics_of_every_evaluation(
    configure: Configure, judged: dict[str, int], tmp_path: Path
) -> None:
    train(configure(), tmp_path / "run")
    lines = validation_lines(tmp_path / "run")
    assert [line["measures"]["taste"] for line in lines] == SCRIPT


def test_without_a_measure_the_validation_loss_selects(
    configure: Configure, tmp_path: Path
) -> None:
    config = configure(select="best")
    steep = config.optimizer.model_copy(update={"learning_rate": 0.3, "warmup_steps": 2})
    result = train(config.model_copy(update={"optimizer": steep}), tmp_path / "run")
    losses = [line["loss"] for line in validation_lines(tmp_path / "run")]
    assert result.report is not None
    assert result.report.scores.loss == min(losses)


@pytest.mark.parametrize(("patience", "last"), [(1, 3), (2, 6), (5, 8)])
def test_a_run_ends_after_so_many_evaluations_without_a_better_one(
    patience: int, last: int, configure: Configure, judged: dict[str, int], tmp_path: Path
) -> None:
    train(configure(patience=patience), tmp_path / "run")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["status"], status["step"]) == ("finished", last)


def test_evaluations_during_warm_up_do_not_try_patience(
    configure: Configure, judged: dict[str, int], tmp_path: Path
) -> None:
    """A run of few steps ended before its learning rate was what it was to be."""
    config = configure(patience=1)
    slow = config.optimizer.model_copy(update={"warmup_steps": 4})
    train(config.model_copy(update={"optimizer": slow}), tmp_path / "run")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["step"] == 5, "step 3 was worse than step 2, and step 5 than step 4"


@pytest.mark.parametrize("step", [4, 5])
def test_a_killed_run_goes_on_to_the_same_choice(
    step: int,
    configure: Configure,
    judged: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = configure(select="best", patience=3)
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_at(step, patch)
        with pytest.raises(Killed):
            train(config, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    assert numbers(tmp_path / "run") == numbers(tmp_path / "whole")
    assert exported(tmp_path / "run") == exported(tmp_path / "whole")
    written = [(tmp_path / name / "evaluation.json").read_text() for name in ("run", "whole")]
    assert written[0] == written[1]


def test_a_finished_run_can_be_resumed_and_stays_as_it_was(
    configure: Configure, judged: dict[str, int], tmp_path: Path
) -> None:
    config = configure(select="best", patience=1)
    train(config, tmp_path / "run")
    before = numbers(tmp_path / "run"), exported(tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    assert (numbers(tmp_path / "run"), exported(tmp_path / "run")) == before


def test_damaged_best_weights_are_not_exported(
    configure: Configure,
    judged: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = configure(select="best")
    with monkeypatch.context() as patch:
        kill_at(7, patch)
        with pytest.raises(Killed):
            train(config, tmp_path / "run")
    best = tmp_path / "run" / "best" / "step-00000004.safetensors"
    content = bytearray(best.read_bytes())
    content[-1] ^= 1
    best.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"step-00000004\.safetensors is damaged"):
        train(config, tmp_path / "run", resume=True)


def test_weights_that_were_the_best_once_are_deleted(
    configure: Configure, judged: dict[str, int], tmp_path: Path
) -> None:
    train(configure(select="best"), tmp_path / "run")
    kept = [path.name for path in (tmp_path / "run" / "best").iterdir()]
    assert kept == ["step-00000004.safetensors"]


def test_a_value_that_is_no_number_is_never_the_best() -> None:
    first = Selection().after(1, math.nan)
    assert (first.best_step, first.since_best) == (0, 1)
    second = first.after(2, -5.0).after(3, math.nan)
    assert (second.best_step, second.best_value, second.since_best) == (2, -5.0, 1)
