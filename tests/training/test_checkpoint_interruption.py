"""Failing system calls, full disks and kills leave the checkpoint before intact."""

from __future__ import annotations

import errno
import itertools
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from safetensors.torch import save_file

from seqmlm.atomic_files import remove_leftovers
from seqmlm.errors import CheckpointError
from seqmlm.training.checkpoint import load_newest, prune
from tests.training.saved_steps import FILES, assert_is_step, names, save_step

KILLS = int(os.environ.get("SEQMLM_KILLS", "50"))


def patch_writing_calls(patch: pytest.MonkeyPatch, wrap: Callable[..., Any]) -> None:
    """Replace each function that writes by ``wrap(name, function)``."""
    for name in ("open", "write", "fsync", "replace", "mkdir"):
        patch.setattr(os, name, wrap(f"os.{name}", getattr(os, name)))
    patch.setattr(Path, "write_text", wrap("write_text", Path.write_text))
    patch.setattr("seqmlm.training.checkpoint.save_file", wrap("save_file", save_file))


def failing_calls(first: int, last: float, code: int) -> Callable[..., Any]:
    count = 0

    def wrap(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if not first <= count <= last:
                return original(*args, **kwargs)
            if name == "save_file":
                raise SafetensorError(f"I/O error: {os.strerror(code)} (os error {code})")
            if name == "write_text":
                original(args[0], args[1][: len(args[1]) // 2])
            raise OSError(code, os.strerror(code))

        return call

    return wrap


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EINTR])
@pytest.mark.parametrize("persists", [False, True], ids=["once", "from then on"])
def test_whichever_call_fails_the_previous_checkpoint_is_intact(
    tmp_path: Path, code: int, persists: bool
) -> None:
    save_step(tmp_path, 1)
    for n in range(1, 100):
        failure: CheckpointError | None = None
        with pytest.MonkeyPatch.context() as patch:
            patch_writing_calls(patch, failing_calls(n, float("inf") if persists else n, code))
            try:
                save_step(tmp_path, 2)
            except CheckpointError as error:
                failure = error
        if failure is None:
            break
        assert os.strerror(code) in str(failure)
        assert "step-00000002 cannot be written" in str(failure)
        assert "Needed: 672 bytes. Free: " in str(failure)  # 2 x (40 x 2 floats + 2 int64)
        # Where even undoing fails, the complete new checkpoint may stay, never a part of one.
        loaded = load_newest(tmp_path)
        assert loaded is not None
        assert_is_step(loaded, 2 if persists and loaded.state.step == 2 else 1)
        if loaded.state.step == 2:
            shutil.rmtree(loaded.path)
        # A disk that fails for good does not let the temporary folder be removed either.
        assert len(remove_leftovers(tmp_path)) <= persists
        assert names(tmp_path) == ["step-00000001"]
    # mkdir; 2 save_file; 2 write_text; open and fsync of 4 files and the folder; replace; open
    # and fsync of the parent
    assert n == 1 + 2 + 2 + 10 + 1 + 2 + 1
    assert_is_step(load_newest(tmp_path), 2)


def test_everything_is_synced_before_the_rename_and_the_parent_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, str]] = []
    opened: dict[int, str] = {}

    def record(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if name == "os.open":
                opened[result] = os.fspath(args[0])
            subject = opened[args[0]] if name == "os.fsync" else args[name == "os.replace"]
            events.append((name.removeprefix("os."), os.fspath(subject)))
            return result

        return call

    def record_save(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        if name not in ("write_text", "save_file"):
            return record(name, original)

        def call(*args: Any) -> Any:
            events.append(("content", str(args[0] if name == "write_text" else args[1])))
            return original(*args)

        return call

    patch_writing_calls(monkeypatch, record_save)
    target = save_step(tmp_path, 1)
    monkeypatch.undo()
    temporary = str(tmp_path / f".tmp-step-00000001-{os.getpid()}")
    trace = [event for event in events if event[0] != "open"]
    rename = trace.index(("replace", str(target)))
    synced = [subject for event, subject in trace[:rename] if event == "fsync"]
    assert set(synced) == {temporary, *(f"{temporary}/{name}" for name in FILES)}
    assert synced[-1] == temporary
    written = [subject for event, subject in trace if event == "content"]
    assert written[-1] == f"{temporary}/MANIFEST.json"
    for name in FILES:
        path = f"{temporary}/{name}"
        assert trace.index(("content", path)) < trace.index(("fsync", path))
    assert trace[rename + 1 :] == [("fsync", str(tmp_path))]


def test_a_file_size_limit_is_a_clear_error_and_training_can_go_on(
    tmp_path: Path, fork: Callable[[Callable[[], None]], int]
) -> None:
    """The kernel's own failure, in a child: a 320 kB file where 100 kB are allowed."""
    save_step(tmp_path, 1)
    reader, writer = os.pipe()

    def save_with_little_space() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            save_step(tmp_path, 2, size=40_000)
        except CheckpointError as error:
            os.write(writer, str(error).encode())
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        save_step(tmp_path, 3)

    child = fork(save_with_little_space)
    os.close(writer)
    with os.fdopen(reader, "rb") as messages:
        message = messages.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "step-00000002 cannot be written" in message
    assert "File too large" in message
    assert "Needed: 640,032 bytes. Free: " in message
    assert "Free some space" in message
    assert names(tmp_path) == ["step-00000001", "step-00000003"]
    assert_is_step(load_newest(tmp_path), 3)


KILLED_SIZE = 12_000  # 96 kB of model and as much of optimizer


def save_continuously(folder: Path, first_step: int, acknowledge: int) -> None:
    """Save and prune for ever; write each step's number once it is durable."""
    for step in itertools.count(first_step):
        save_step(folder, step, size=KILLED_SIZE)
        os.write(acknowledge, step.to_bytes(8, "little"))
        prune(folder, keep=2)


def test_no_acknowledged_checkpoint_is_lost_by_kill_9(
    tmp_path: Path, fork: Callable[[Callable[[], None]], int]
) -> None:
    """Kills at random moments of saving and pruning; ``SEQMLM_KILLS`` sets how many."""
    chance = random.Random(0)
    acknowledged = 0
    save_step(tmp_path, 0, size=KILLED_SIZE)
    start = time.monotonic()
    save_step(tmp_path, 1, size=KILLED_SIZE)
    save_seconds = time.monotonic() - start
    for _ in range(KILLS):
        loaded = load_newest(tmp_path)
        assert loaded is not None
        assert loaded.state.step >= acknowledged
        assert_is_step(loaded, loaded.state.step, size=KILLED_SIZE)
        reader, writer = os.pipe()
        child = fork(partial(save_continuously, tmp_path, loaded.state.step + 1, writer))
        os.close(writer)
        acknowledged = int.from_bytes(os.read(reader, 8), "little")
        time.sleep(chance.uniform(0, 3 * save_seconds))  # the moment of the kill is the experiment
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as acknowledgements:
            rest = acknowledgements.read()
        acknowledged = int.from_bytes(rest[-8:], "little") if rest else acknowledged
        leftovers = [name for name in names(tmp_path) if not name.startswith("step-")]
        assert len(leftovers) <= 1
        assert len(remove_leftovers(tmp_path)) == len(leftovers)
        assert all(name.startswith("step-") for name in names(tmp_path))
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded.state.step >= acknowledged >= KILLS
