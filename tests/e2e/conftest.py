"""The command line in this process and in forked ones, and the small data they run on."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pytest
import torch

from seqmlm.cli import main
from seqmlm.training.optimizer import learning_rate
from seqmlm.training.plots import plot_run

TINY = Path(__file__).parents[2] / "configs" / "tiny" / "protein.toml"
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"

Cli = Callable[..., "Outcome"]
Start = Callable[..., "Child"]
AssertRefused = Callable[..., None]


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass
class Child:
    """A command in a process of its own, forked from this one so that torch is imported already.

    ``ready`` gets a byte when the process waits in :func:`wait_for_parent`; ``go`` releases it.
    """

    process_id: int
    stdout_path: Path
    stderr_path: Path
    ready: int
    go: int
    status: int | None = None

    def wait_until_ready(self) -> None:
        assert os.read(self.ready, 1) == b"r", self.stderr_path.read_text()

    def release(self) -> None:
        os.write(self.go, b"g")

    def wait(self) -> Outcome:
        """Exit code as Popen has it: negative when a signal ended the process."""
        if self.status is None:
            self.status = os.waitpid(self.process_id, 0)[1]
            os.close(self.ready)
            os.close(self.go)
        return Outcome(
            os.waitstatus_to_exitcode(self.status),
            self.stdout_path.read_text(),
            self.stderr_path.read_text(),
        )


@pytest.fixture(scope="session", autouse=True)
def _one_thread_and_a_cache_of_its_own(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # forked processes have no more; other counts give other last bits
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("COLUMNS", "200")
        # Half the time of so small a run; the fixture `trained` draws its plots.
        patch.setattr("seqmlm.training.loop.plot_run", lambda *arguments, **options: [])
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For processes that import everything anew: they find the packages that this one found."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture(scope="session")
def tiny_config() -> str:
    return str(TINY)


@pytest.fixture(scope="session")
def tiny_fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 sequences in 16 families whose members differ in one residue of twenty."""
    path = tmp_path_factory.mktemp("data") / "tiny.fasta"
    write_families(path, families=16, members=4, seed=0)
    return path


@pytest.fixture(scope="session")
def make_fasta() -> Callable[..., None]:
    return write_families


def write_families(path: Path, *, families: int, members: int, seed: int) -> None:
    generator = random.Random(seed)
    with path.open("w") as file:
        for family in range(families):
            ancestor = generator.choices(RESIDUES, k=generator.randint(30, 60))
            for member in range(members):
                sequence = [
                    generator.choice(RESIDUES) if generator.random() < 0.05 else residue
                    for residue in ancestor
                ]
                file.write(f">f{family}m{member}\n{''.join(sequence)}\n")


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Run ``seqmlm ARGUMENTS`` in this process; a bug of ours raises through."""

    def run(*arguments: object, stdin: bytes = b"") -> Outcome:
        stdout, stderr = io.StringIO(), io.StringIO()
        exit_code = _run_main(arguments, stdin=stdin, stdout=stdout, stderr=stderr)
        return Outcome(exit_code, stdout.getvalue(), stderr.getvalue())

    return run


@pytest.fixture(scope="session")
def assert_refused(cli: Cli) -> AssertRefused:
    """Run a command that must fail with one line on standard error and nothing else."""

    def run(*arguments: object, exit_code: int, says: Sequence[str], stdin: bytes = b"") -> None:
        outcome = cli("-q", *arguments, stdin=stdin)
        assert outcome.exit_code == exit_code, outcome.stderr
        assert outcome.stderr.startswith("Error: ")
        assert outcome.stderr.count("\n") == 1, outcome.stderr
        for text in says:
            assert text in outcome.stderr
        assert outcome.stdout == ""

    return run


@pytest.fixture(scope="session")
def train(cli: Cli, tiny_config: str, tiny_fasta: Path) -> Cli:
    """Run the tiny configuration to its end in ``output``, with more arguments if given."""

    def run(output: Path, *arguments: object, data: Path = tiny_fasta) -> Outcome:
        options = ("--config", tiny_config, "--data", data, "--output", output)
        outcome = cli("train", *options, *arguments)
        assert outcome.exit_code == 0, outcome.stderr
        return outcome

    return run


@pytest.fixture(scope="session")
def trained(train: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with plots; nobody changes it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seqmlm.training.loop.plot_run", plot_run)
        train(folder)
    return folder


@pytest.fixture
def start(tmp_path: Path, trained: Path) -> Iterator[Start]:
    """Start ``seqmlm ARGUMENTS`` in a forked process, after calling ``prelude`` there.

    Needs ``trained`` only because it has imported all that the forked processes will use.
    """
    children: list[Child] = []

    def fork(*arguments: object, prelude: Callable[[], None] = lambda: None) -> Child:
        stem = tmp_path / f"process-{len(children)}"
        stdout_path, stderr_path = stem.with_suffix(".stdout"), stem.with_suffix(".stderr")
        (ready_read, ready_write), (go_read, go_write) = os.pipe(), os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later, about threads
            process_id = os.fork()
        if process_id == 0:
            exit_code = 70
            try:
                os.setpgid(0, 0)
                os.close(ready_read)
                os.close(go_write)
                os.environ["READY"], os.environ["GO"] = str(ready_write), str(go_read)
                with stdout_path.open("w") as stdout, stderr_path.open("w") as stderr:
                    prelude()
                    exit_code = _run_main(arguments, stdin=b"", stdout=stdout, stderr=stderr)
            finally:
                os._exit(exit_code)  # never back into pytest
        os.close(ready_write)
        os.close(go_read)
        children.append(Child(process_id, stdout_path, stderr_path, ready_read, go_write))
        return children[-1]

    yield fork
    for child in children:
        if child.status is None:
            os.kill(child.process_id, signal.SIGKILL)
            child.wait()


@pytest.fixture
def at_step() -> Callable[[int, Callable[[], None]], Callable[[], None]]:
    """Make a prelude for ``start``: call something in that process as it begins a given step."""

    def make(chosen_step: int, action: Callable[[], None]) -> Callable[[], None]:
        def prelude() -> None:
            def watched(step: int, *arguments: Any, **options: Any) -> float:
                if step == chosen_step:
                    action()
                return learning_rate(step, *arguments, **options)

            pytest.MonkeyPatch().setattr("seqmlm.training.loop.learning_rate", watched)

        return prelude

    return make


@pytest.fixture
def wait_for_parent() -> Callable[[], None]:
    """To be called in a forked process: say that it is ready, and wait to be released."""

    def wait() -> None:
        os.write(int(os.environ["READY"]), b"r")
        os.read(int(os.environ["GO"]), 1)

    return wait


@pytest.fixture(scope="session")
def numbers() -> Callable[[Path], list[str]]:
    """Return all of a run's metrics but the clock's, numbers as the text that they are in."""

    def read(folder: Path) -> list[str]:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line, parse_float=str) for line in lines]
        return [
            str({key: value for key, value in record.items() if key != "seconds"})
            for record in records
        ]

    return read


@pytest.fixture(scope="session")
def weights() -> Callable[[Path], str]:
    """Return the sha256 of a run's exported weights."""

    def read(folder: Path) -> str:
        return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()

    return read


def _run_main(arguments: Sequence[object], *, stdin: bytes, stdout: TextIO, stderr: TextIO) -> int:
    """Call the entry point as the console script does; warnings of ours are errors here too."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []  # pytest's own would keep ours from being set up
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["seqmlm", *map(str, arguments)])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
                main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        root.handlers = handlers
        root.setLevel(level)
    return 0
