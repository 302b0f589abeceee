"""A stopped run saves, says so by its exit code, and goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from seqmlm.evaluation.masked import evaluate_masked
from seqmlm.training import checkpoint
from seqmlm_domains.protein.domain import ProteinDomain

if TYPE_CHECKING:
    from tests.e2e.conftest import Child, Cli, Start

    AtStep = Callable[[int, Callable[[], None]], Callable[[], None]]
    Read = Callable[[Path], object]
    StartTiny = Callable[..., Child]

EXIT_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def start_tiny(start: Start, tiny_config: str, tiny_fasta: Path, run: Path) -> StartTiny:
    """Start the tiny run in a forked process."""

    def begin(*options: object, prelude: Callable[[], None] = lambda: None) -> Child:
        command = ("train", "--config", tiny_config, "--data", tiny_fasta, "--output", run)
        return start(*command, *options, prelude=prelude)

    return begin


def send_to_this_process(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def status(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "status.json").read_text())
    return content


@pytest.mark.parametrize("number", EXIT_CODES, ids=lambda number: number.name)
def test_a_stop_signal_ends_the_step_saves_and_exits_with_its_code(
    number: signal.Signals,
    start_tiny: StartTiny,
    at_step: AtStep,
    run: Path,
    cli: Cli,
    trained: Path,
    numbers: Read,
    weights: Read,
) -> None:
    stopped = start_tiny(prelude=at_step(7, send_to_this_process(number))).wait()
    assert stopped.exit_code == EXIT_CODES[number]
    assert (run / "checkpoints" / "step-00000007").is_dir()
    assert status(run) == {"status": "stopped", "step": 7, "exit_code": EXIT_CODES[number]}
    last_line = stopped.stderr.splitlines()[-1]
    assert "after step 7" in last_line
    assert f"seqmlm train --resume --output {run}" in last_line
    assert cli("train", "--resume", "--output", run).exit_code == 0
    assert numbers(run) == numbers(trained)
    assert weights(run) == weights(trained)


def stop_during(function: str, call: int) -> Callable[[], None]:
    """Make a prelude: SIGTERM comes as ``function`` is called for the given time."""
    originals: dict[str, Callable[..., Any]] = {
        "seqmlm.training.validation.evaluate_masked": evaluate_masked,
        "seqmlm.training.checkpoint.save": checkpoint.save,
    }
    calls: list[None] = []

    def signalled(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return originals[function](*arguments, **options)

    return lambda: pytest.MonkeyPatch().setattr(function, signalled)


@pytest.mark.parametrize(
    ("function", "call", "step"),
    [
        ("seqmlm.training.validation.evaluate_masked", 1, 8),
        ("seqmlm.training.validation.evaluate_masked", 3, 20),
        ("seqmlm.training.checkpoint.save", 1, 6),
    ],
    ids=["evaluation", "last evaluation", "save"],
)
def test_a_stop_during_something_else_than_a_step_loses_nothing_either(
    function: str,
    call: int,
    step: int,
    start_tiny: StartTiny,
    run: Path,
    cli: Cli,
    trained: Path,
    numbers: Read,
    weights: Read,
) -> None:
    """Failed before: an evaluation that was cut short was missing from the metrics for ever."""
    stopped = start_tiny(prelude=stop_during(function, call)).wait()
    assert stopped.exit_code == 143
    assert status(run) == {"status": "stopped", "step": step, "exit_code": 143}
    assert (run / "checkpoints" / f"step-{step:08d}").is_dir()
    assert cli("train", "--resume", "--output", run).exit_code == 0
    assert numbers(run) == numbers(trained)
    assert weights(run) == weights(trained)


def test_a_stop_while_reading_the_data_leaves_a_folder_that_can_be_used_again(
    start_tiny: StartTiny,
    run: Path,
    train: Cli,
    trained: Path,
    numbers: Read,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    read = ProteinDomain.read

    def signalled(*arguments: Any) -> Any:
        for number, record in enumerate(read(*arguments)):
            if number == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield record

    stopped = start_tiny(
        prelude=lambda: pytest.MonkeyPatch().setattr(ProteinDomain, "read", signalled)
    ).wait()
    assert stopped.exit_code == 143
    assert "stopped while reading the data" in stopped.stderr
    assert not list((tmp_path / "cache" / "stores").iterdir())
    train(run)
    assert numbers(run) == numbers(trained)


def test_a_stop_before_the_first_step_trains_nothing(
    start_tiny: StartTiny, run: Path, cli: Cli, trained: Path, numbers: Read
) -> None:
    """Failed before: one step was trained, however long it would take."""
    groups = ProteinDomain.similarity_groups

    def signalled(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return groups(*arguments)

    stopped = start_tiny(
        prelude=lambda: pytest.MonkeyPatch().setattr(ProteinDomain, "similarity_groups", signalled)
    ).wait()
    assert stopped.exit_code == 143
    assert status(run) == {"status": "stopped", "step": 0, "exit_code": 143}
    assert cli("train", "--resume", "--output", run).exit_code == 0
    assert numbers(run) == numbers(trained)


def test_sigusr1_saves_and_does_not_change_the_run(
    start_tiny: StartTiny,
    at_step: AtStep,
    run: Path,
    trained: Path,
    numbers: Read,
    weights: Read,
) -> None:
    save = send_to_this_process(signal.SIGUSR1)
    options = ("--set", "training.keep_checkpoints=9")
    assert start_tiny(*options, prelude=at_step(7, save)).wait().exit_code == 0
    assert (run / "checkpoints" / "step-00000007").is_dir()
    assert numbers(run) == numbers(trained)
    assert weights(run) == weights(trained)


def test_a_second_sigint_ends_at_once_and_keeps_the_checkpoints(
    start_tiny: StartTiny, at_step: AtStep, run: Path, cli: Cli, trained: Path, numbers: Read
) -> None:
    def interrupt_twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    stopped = start_tiny(prelude=at_step(9, interrupt_twice)).wait()
    assert stopped.exit_code == 130
    assert "Traceback" not in stopped.stderr
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000006"]
    assert cli("train", "--resume", "--output", run).exit_code == 0
    assert numbers(run) == numbers(trained)


def test_a_signal_from_outside_to_the_process_group_is_obeyed_within_the_step(
    start_tiny: StartTiny, at_step: AtStep, wait_for_parent: Callable[[], None], run: Path
) -> None:
    child = start_tiny(prelude=at_step(5, wait_for_parent))
    child.wait_until_ready()
    os.killpg(child.process_id, signal.SIGTERM)
    child.release()
    assert child.wait().exit_code == 143
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000005"]


def test_a_run_in_use_refuses_a_second_process_and_names_the_first(
    start_tiny: StartTiny,
    at_step: AtStep,
    wait_for_parent: Callable[[], None],
    run: Path,
    cli: Cli,
    trained: Path,
    numbers: Read,
) -> None:
    child = start_tiny(prelude=at_step(5, wait_for_parent))
    child.wait_until_ready()
    refused = cli("-q", "train", "--resume", "--output", run)
    assert refused.exit_code == 2
    assert f"is in use by process {child.process_id}" in refused.stderr
    child.release()
    assert child.wait().exit_code == 0
    assert numbers(run) == numbers(trained)


def test_two_first_runs_on_the_same_data_do_not_hinder_each_other(
    start: Start,
    tiny_config: str,
    tiny_fasta: Path,
    tmp_path: Path,
    wait_for_parent: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    train: Cli,
) -> None:
    """Failed before: who came second with the tokens could not put them into the cache."""
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    read = ProteinDomain.read

    def waiting(*arguments: Any) -> Any:
        wait_for_parent()
        return read(*arguments)

    command = ("train", "--config", tiny_config, "--data", tiny_fasta)
    slow = start(
        *command,
        *("--output", tmp_path / "slow"),
        prelude=lambda: pytest.MonkeyPatch().setattr(ProteinDomain, "read", waiting),
    )
    slow.wait_until_ready()
    train(tmp_path / "fast")
    slow.release()
    outcome = slow.wait()
    assert outcome.exit_code == 0, outcome.stderr


def test_a_process_of_its_own_obeys_a_signal_to_its_group(
    tiny_config: str, tiny_fasta: Path, run: Path, environment: dict[str, str]
) -> None:
    command = ("train", "--config", tiny_config, "--data", str(tiny_fasta), "--output", str(run))
    with subprocess.Popen(
        [sys.executable, "-m", "seqmlm", *command, "--steps", "1000000"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "step 3/" in line:
                os.killpg(process.pid, signal.SIGTERM)
        assert process.wait() == 143, "".join(said)
    last_line = said[-1]
    step = status(run)["step"]
    assert f"after step {step}" in last_line
    assert (run / "checkpoints" / f"step-{step:08d}").is_dir()
