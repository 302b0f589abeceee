"""A run that was killed and resumed is the run that was never interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Cli, Start

    AtStep = Callable[[int, Callable[[], None]], Callable[[], None]]
    Read = Callable[[Path], object]

# Five batches an epoch, checkpoints at 6, 12 and 18: step 9 is in epoch 1, step 16 in epoch 3.
VARIANTS: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "float32, twice in an epoch": ((), (8, 9, 16)),
    "bfloat16": (("training.precision=bfloat16",), (9, 16)),
    "micro-batches": (("training.micro_batches=2",), (9, 16)),
    "cluster sampling": (("data.sampling=cluster", "training.tokens_per_batch=256"), (9, 16)),
}


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_killed_between_saves_goes_on_bit_for_bit(
    variant: str,
    tmp_path: Path,
    tiny_config: str,
    tiny_fasta: Path,
    train: Cli,
    start: Start,
    at_step: AtStep,
    cli: Cli,
    numbers: Read,
    weights: Read,
) -> None:
    settings, kills = VARIANTS[variant]
    options = [text for setting in settings for text in ("--set", setting)]
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(whole, *options)
    command: list[object] = ["--config", tiny_config, "--data", tiny_fasta, *options]
    for step in kills:
        killed = start("train", "--output", run, *command, prelude=at_step(step, kill_this_process))
        assert killed.wait().exit_code == -signal.SIGKILL
        command = ["--resume"]
    resumed = cli("train", "--output", run, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert numbers(run) == numbers(whole)
    assert weights(run) == weights(whole)
    assert (run / "evaluation.json").read_text() == (whole / "evaluation.json").read_text()


def test_a_run_killed_before_its_first_checkpoint_starts_again(
    tmp_path: Path,
    tiny_config: str,
    tiny_fasta: Path,
    start: Start,
    at_step: AtStep,
    cli: Cli,
    trained: Path,
    numbers: Read,
) -> None:
    command = ("--config", tiny_config, "--data", tiny_fasta, "--output", tmp_path / "run")
    killed = start("train", *command, prelude=at_step(4, kill_this_process))
    assert killed.wait().exit_code == -signal.SIGKILL
    resumed = cli("train", "--resume", "--output", tmp_path / "run")
    assert "no checkpoint yet" in resumed.stderr
    assert numbers(tmp_path / "run") == numbers(trained)


def test_two_equal_runs_are_bit_equal_and_another_seed_is_not(
    train: Cli, trained: Path, tmp_path: Path, numbers: Read, weights: Read
) -> None:
    train(tmp_path / "again")
    train(tmp_path / "other", "--seed", 1)
    assert numbers(tmp_path / "again") == numbers(trained) != numbers(tmp_path / "other")
    assert weights(tmp_path / "again") == weights(trained) != weights(tmp_path / "other")


@pytest.mark.parametrize("moved", [False, True], ids=["in place", "moved"])
def test_resuming_a_finished_run_changes_nothing(
    moved: bool, trained: Path, tmp_path: Path, cli: Cli, numbers: Read, weights: Read
) -> None:
    """Failed before: a second line of validation was added."""
    run = tmp_path / ("elsewhere" if moved else "run")
    shutil.copytree(trained, run)
    assert cli("train", "--resume", "--output", run).exit_code == 0
    assert numbers(run) == numbers(trained)
    assert weights(run) == weights(trained)


@pytest.fixture
def interrupted(trained: Path, tmp_path: Path) -> Path:
    """A run whose newest checkpoint is that of step 18 of 20."""
    run = Path(shutil.copytree(trained, tmp_path / "interrupted"))
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints" / "step-00000020")
    return run


@pytest.mark.parametrize(
    ("setting", "key", "saved", "given"),
    [
        ("model.layers=3", "model", '"layers":2', '"layers":3'),
        ("model.dropout=0.2", "model", '"dropout":0.1', '"dropout":0.2'),
        ("training.seed=7", "seed", "0", "7"),
        ("training.tokens_per_batch=600", "tokens_per_batch", "512", "600"),
        ("training.micro_batches=2", "micro_batches", "1", "2"),
        ("training.precision=bfloat16", "precision", "'float32'", "'bfloat16'"),
        ("optimizer.clip_norm=2", "optimizer", '"clip_norm":1.0', '"clip_norm":2.0'),
        ("objectives.0.policy.rate=0.3", "objectives", '"rate":0.15', '"rate":0.3'),
        ("data.max_length=40", "data_settings", '"max_length":48', '"max_length":40'),
        ("domain.gaps=strip", "domain", '"name":"protein"', '"gaps":"strip"'),
    ],
    ids=lambda value: value if "=" in value else "",
)  # fmt: skip
def test_a_setting_that_would_change_the_numbers_is_refused_on_resume(
    setting: str, key: str, saved: str, given: str, interrupted: Path, cli: Cli
) -> None:
    before = contents(interrupted)
    refused = cli("-q", "train", "--resume", "--output", interrupted, "--set", setting)
    assert refused.exit_code == 1
    message = refused.stderr.split(f"{key} was ")[1]
    assert saved in message.split(", now ")[0]
    assert given in message.split(", now ")[1]
    assert f"--allow-drift {key}" in message
    assert contents(interrupted) == before, "a refused resume must leave the run as it was"


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run but its log."""
    files = [path for path in run.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in files
        if path.name not in ("train.log", ".lock")
    }


def test_changed_data_are_refused_on_resume_with_both_fingerprints(
    trained: Path, interrupted: Path, tmp_path: Path, cli: Cli, tiny_fasta: Path
) -> None:
    other = tmp_path / "other.fasta"
    other.write_text(tiny_fasta.read_text() + ">one more\nMKTAYIAKQRQISFVKSHFSRQ\n")
    saved = json.loads((trained / "checkpoints/step-00000020/state.json").read_text())
    refused = cli("-q", "train", "--resume", "--output", interrupted, "--data", other)
    assert refused.exit_code == 1
    assert f"data was {saved['identity']['data']!r}, now '" in refused.stderr


def test_an_allowed_difference_is_a_warning(interrupted: Path, cli: Cli) -> None:
    options = ("--set", "optimizer.learning_rate=0.1", "--allow-drift", "optimizer")
    resumed = cli("-q", "train", "--resume", "--output", interrupted, *options)
    assert resumed.exit_code == 0
    assert resumed.stderr.startswith("resuming although optimizer was ")
    assert "learning_rate = 0.1" in (interrupted / "config.toml").read_text()


@pytest.mark.parametrize(
    "options",
    [
        ("--steps", 22),
        ("--set", "training.log_every=7"),
        ("--set", "training.checkpoint_every=1"),
        ("--set", "training.keep_checkpoints=9"),
        ("--set", "training.evaluate_every=3"),
    ],
    ids=lambda options: str(options[1]),
)
def test_a_harmless_change_is_accepted_on_resume(
    options: tuple[object, ...], interrupted: Path, cli: Cli
) -> None:
    resumed = cli("-q", "train", "--resume", "--output", interrupted, *options)
    assert (resumed.exit_code, resumed.stderr) == (0, "")


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before_with_a_warning(
    trained: Path, tmp_path: Path, cli: Cli, numbers: Read, weights: Read
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    damage(run / "checkpoints/step-00000020/optimizer.safetensors")
    resumed = cli("-q", "train", "--resume", "--output", run)
    assert resumed.exit_code == 0
    assert resumed.stderr == (
        "checkpoint step-00000020 rejected: optimizer.safetensors: sha256 differs; "
        "using step-00000018, 2 steps are repeated\n"
    )
    assert numbers(run) == numbers(trained)
    assert weights(run) == weights(trained)


def test_no_intact_checkpoint_is_an_error(trained: Path, tmp_path: Path, cli: Cli) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    for state in run.glob("checkpoints/*/state.json"):
        damage(state)
    refused = cli("-q", "train", "--resume", "--output", run)
    assert refused.exit_code == 1
    assert "None of the 2 checkpoints" in refused.stderr


def test_the_status_file_follows_the_run(trained: Path) -> None:
    status: dict[str, Any] = json.loads((trained / "status.json").read_text())
    assert status == {"status": "finished", "step": 20, "exit_code": 0}
