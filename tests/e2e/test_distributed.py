"""Two processes compute what one does. A single launch of torchrun serves all tests here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Cli

    Read = Callable[[Path], object]

NO_DROPOUT = ("--set", "model.dropout=0")
ONE_RECORD_A_STEP = ("--set", "training.tokens_per_batch=1")
CASES: dict[str, tuple[str, ...]] = {
    "plain": NO_DROPOUT,
    "micro-batches": (*NO_DROPOUT, "--set", "training.micro_batches=2"),
    "empty shares": (*NO_DROPOUT, *ONE_RECORD_A_STEP),
    "stopped": NO_DROPOUT,
}
EXIT_CODES = {"plain": 0, "micro-batches": 0, "empty shares": 0, "stopped": 143}

SCRIPT = """
import functools, os, signal, sys
from pathlib import Path

import torch.distributed as dist

import seqmlm.training.loop as loop
from seqmlm.cli import main

# A rendezvous serves one group: the first run joins it, the others go on with it.
dist.init_process_group = functools.cache(dist.init_process_group)
leave, dist.destroy_process_group = dist.destroy_process_group, lambda: None

CASES, COMMAND, FOLDER = {cases!r}, {command!r}, Path({folder!r})
rank = os.environ["RANK"]
learning_rate = loop.learning_rate
loop.plot_run = lambda *arguments, **options: []


def stop_one_rank(step, *arguments, **options):
    if step == 7 and rank == "1":
        os.kill(os.getpid(), signal.SIGTERM)
    return learning_rate(step, *arguments, **options)


for name, options in CASES.items():
    loop.learning_rate = stop_one_rank if name == "stopped" else learning_rate
    sys.argv = ["seqmlm", *COMMAND, "--output", str(FOLDER / name), *options]
    try:
        main()
    except SystemExit as end:
        (FOLDER / f"{{name}} {{rank}}").write_text(str(end.code or 0))
leave()
"""


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_config: str,
    tiny_fasta: Path,
    environment: dict[str, str],
) -> Path:
    """Has a run for every case, made by two processes, and the exit code of each rank."""
    folder = tmp_path_factory.mktemp("distributed")
    script = folder / "script.py"
    command = ["train", "--config", tiny_config, "--data", str(tiny_fasta)]
    script.write_text(SCRIPT.format(cases=CASES, command=command, folder=str(folder)))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    with subprocess.Popen(
        [*torchrun, "--standalone", str(script)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            _, errors = process.communicate(timeout=150)
        except subprocess.TimeoutExpired:
            process.terminate()  # a killed torchrun would leave its workers behind
            raise
    assert process.returncode == 0, errors
    (folder / "errors").write_text(errors)
    return folder


def values(run: Path, key: str = "loss") -> list[float]:
    return [json.loads(line)[key] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rank", [0, 1])
def test_every_rank_ends_with_the_same_exit_code(folder: Path, case: str, rank: int) -> None:
    assert (folder / f"{case} {rank}").read_text() == str(EXIT_CODES[case])


@pytest.mark.parametrize("case", ["plain", "micro-batches", "empty shares"])
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_losses_and_evaluations_are_those_of_one_process(
    folder: Path, case: str, micro_batches: int, tmp_path: Path, train: Cli
) -> None:
    options = ("--set", f"training.micro_batches={micro_batches}")
    train(tmp_path / "run", *CASES[case], *options)
    alone, together = values(tmp_path / "run"), values(folder / case)
    assert len(together) == 23
    assert together == pytest.approx(alone, rel=1e-5)
    assert values(folder / case, "tokens") == values(tmp_path / "run", "tokens")


def test_a_signal_to_one_rank_stops_all_after_the_same_step(folder: Path) -> None:
    status: dict[str, Any] = json.loads((folder / "stopped" / "status.json").read_text())
    assert status == {"status": "stopped", "step": 7, "exit_code": 143}
    assert [path.name for path in (folder / "stopped/checkpoints").iterdir()] == [
        "step-00000006",
        "step-00000007",
    ]


def test_another_number_of_processes_is_refused_on_resume(
    folder: Path, tmp_path: Path, cli: Cli
) -> None:
    run = Path(shutil.copytree(folder / "stopped", tmp_path / "run"))
    refused = cli("-q", "train", "--resume", "--output", run)
    assert refused.exit_code == 1
    assert "world_size was 2, now 1" in refused.stderr


def test_another_number_of_processes_can_be_allowed(folder: Path, tmp_path: Path, cli: Cli) -> None:
    run = Path(shutil.copytree(folder / "stopped", tmp_path / "run"))
    resumed = cli("-q", "train", "--resume", "--output", run, "--allow-drift", "world_size")
    assert resumed.exit_code == 0
    assert values(run) == pytest.approx(values(folder / "plain"), rel=1e-5)


def test_what_one_rank_says_is_not_said_twice(folder: Path) -> None:
    """Failed before: every rank announced every run."""
    assert (folder / "errors").read_text().count("parameters, 20 steps") == len(CASES)
    assert (folder / "plain" / "train.log").read_text().count("parameters, 20 steps") == 1
