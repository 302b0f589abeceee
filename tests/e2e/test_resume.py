"""A run that was killed and resumed is the run that was never interrupted."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Cli, Start

    AtStep = Callable[[int, Callable[[], None]], Callable[[], None]]
    Read = Callable[[Path], object]

# Five batches an epoch and a checkpoint every 6 steps: step 9 is in epoch 1, step 16 in epoch 3.
VARIANTS = {
    "float32": [],
    "bfloat16": ["--set", "training.precision=bfloat16"],
    "micro-batches": ["--set", "training.micro_batches=2"],
    "cluster sampling": [
        "--set",
        "data.sampling=cluster",
        "--set",
        "training.tokens_per_batch=256",
    ],
}


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kills", [(9, 16), (8, 9, 11)], ids=["two epochs", "twice in one epoch"])
def test_a_killed_run_goes_on_bit_for_bit(
    variant: str,
    kills: tuple[int, ...],
    whole_runs: Callable[[str], Path],
    tmp_path: Path,
    tiny_config: str,
    tiny_fasta: Path,
    start: Start,
    at_step: AtStep,
    cli: Cli,
    numbers: Read,
    weights: Read,
) -> None:
    run = tmp_path / "run"
    command = ["--config", tiny_config, "--data", tiny_fasta, *VARIANTS[variant]]
    for step in kills:
        killed = start("train", "--output", run, *command, prelude=at_step(step, kill_this_process))
        assert killed.wait().exit_code == -signal.SIGKILL
        command = ["--resume"]
    resumed = cli("train", "--output", run, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert numbers(run) == numbers(whole_runs(variant))
    assert weights(run) == weights(whole_runs(variant))
    assert (run / "evaluation.json").read_text() == (
        whole_runs(variant) / "evaluation.json"
    ).read_text()


@pytest.fixture(scope="module")
def whole_runs(train: Cli, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the uninterrupted run of a variant; each is made once."""
    folder = tmp_path_factory.mktemp("whole")

    def run(variant: str) -> Path:
        if not (folder / variant).exists():
            train(folder / variant, *VARIANTS[variant])
        return folder / variant

    return run


def test_two_equal_runs_are_bit_equal_and_another_seed_is_not(
    train: Cli, trained: Path, tmp_path: Path, numbers: Read, weights: Read
) -> None:
    train(tmp_path / "again")
    train(tmp_path / "other", "--seed", 1)
    assert numbers(tmp_path / "again") == numbers(trained)
    assert weights(tmp_path / "again") == weights(trained) != weights(tmp_path / "other")


@pytest.fixture(scope="module")
def interrupted(train: Cli, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Copy a run whose newest checkpoint is that of step 12."""
    origin = tmp_path_factory.mktemp("interrupted") / "run"
    train(origin)
    for name in ("model", "plots"):
        shutil.rmtree(origin / name)
    for name in ("step-00000018", "step-00000020"):
        shutil.rmtree(origin / "checkpoints" / name)

    def copy(target: Path) -> Path:
        return Path(shutil.copytree(origin, target / "run"))

    return copy


@pytest.mark.parametrize("newest_only", [False, True], ids=["all", "newest"])
def test_placeholder(newest_only: bool) -> None:
    assert newest_only in (False, True)
