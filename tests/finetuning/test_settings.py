from __future__ import annotations

from pathlib import Path

import pytest

from seqmlm.errors import ConfigError
from seqmlm.finetuning.settings import (
    FineTuningOptimizerSection,
    configure_finetuning,
    default_learning_rate,
)
from seqmlm.training.optimizer import learning_rate


def test_a_written_configuration_reads_back_equal(tmp_path: Path) -> None:
    config = configure_finetuning(
        tmp_path / "model",
        task="classification",
        data={"train": str(tmp_path / "a.csv")},
        columns={"label": "intent"},
        overrides=["training.epochs=3"],
    )
    path = tmp_path / "config.toml"
    path.write_text(config.resolved().to_toml())
    again = configure_finetuning(tmp_path / "model", resumed=path)
    assert again == config
    assert again.task.model_dump() == {"name": "classification", "label_column": "intent"}


def test_paths_are_kept_for_other_working_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = configure_finetuning("run", task="qa", data={"train": "a.json"}).resolved()
    assert (config.model, config.data.train) == (str(tmp_path / "run"), str(tmp_path / "a.json"))
    assert config.data.test == ""


def test_what_comes_later_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[task]\nname = "qa"\n[data]\ntrain = "a"\n[training]\nepochs = 2\nseed = 1\n')
    config = configure_finetuning("run", files=[path], overrides=["training.epochs=5"])
    assert (config.task.name, config.training.epochs, config.training.seed) == ("qa", 5, 1)


def test_a_task_is_needed() -> None:
    with pytest.raises(ConfigError, match="No task: say --task NAME, one of classification"):
        configure_finetuning("run", data={"train": "a.csv"})


@pytest.mark.parametrize(
    ("schedule", "half", "last"), [("linear", 0.5, 0), ("cosine", 0.5, 0), ("constant", 1, 1)]
)
def test_the_learning_rate_rises_and_then_falls_to_zero(
    schedule: str, half: float, last: float
) -> None:
    optimizer = FineTuningOptimizerSection.model_validate(
        {"learning_rate": 1.0, "schedule": schedule, "warmup_fraction": 0.2}
    ).for_run(50, hidden_size=96, from_scratch=False)
    rates = {step: learning_rate(step, optimizer, steps=50) for step in (5, 10, 30, 50)}
    assert rates == pytest.approx({5: 0.5, 10: 1, 30: half, 50: last})


@pytest.mark.parametrize(
    ("hidden_size", "trained", "random"),
    [
        pytest.param(32, 2e-3, 2e-3, id="no-more-than-2e-3"),
        pytest.param(96, 1.92e-3, 1.92e-3, id="8-times-narrower-64-times-higher"),
        pytest.param(256, 2.7e-4, 1e-3, id="electra-small"),
        pytest.param(768, 3e-5, 1e-3, id="bert-base"),
        pytest.param(1024, 1.6875e-5, 1e-3, id="roberta-large"),
    ],
)
def test_the_default_learning_rate_falls_with_the_width_but_not_for_random_weights(
    hidden_size: int, trained: float, random: float
) -> None:
    section = FineTuningOptimizerSection()
    for from_scratch, expected in ((False, trained), (True, random)):
        chosen = section.for_run(100, hidden_size=hidden_size, from_scratch=from_scratch)
        assert chosen.learning_rate == pytest.approx(expected)
        assert default_learning_rate(hidden_size, from_scratch=from_scratch) == pytest.approx(
            expected
        )


def test_a_learning_rate_that_is_given_is_kept() -> None:
    section = FineTuningOptimizerSection(learning_rate=7e-4)
    chosen = section.for_run(100, hidden_size=768, from_scratch=False)
    assert chosen.learning_rate == 7e-4
