from __future__ import annotations

import errno
import json
import logging
import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.errors import RunFolderError
from seqmlm.training.run_folder import RunFolder


def test_a_new_run_has_its_folders_and_no_leftovers(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "runs" / "a") as run:
        assert sorted(path.name for path in run.path.iterdir()) == [".lock", "checkpoints", "plots"]
        assert run.model_path == tmp_path / "runs" / "a" / "model"


def test_a_folder_with_files_is_refused_unless_resumed(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "a") as run:
        run.config_path.touch()
    with pytest.raises(
        RunFolderError, match=r"not empty \(it has config\.toml\).*--resume"
    ) as info:
        RunFolder.create(tmp_path / "a")
    assert info.value.exit_code == 2
    with RunFolder.resume(tmp_path / "a") as run:
        assert run.config_path.exists()


def test_a_run_that_stopped_before_its_first_file_can_be_started_again(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "a").close()
    with RunFolder.create(tmp_path / "a") as run:
        assert sorted(path.name for path in run.path.iterdir()) == [".lock", "checkpoints", "plots"]


def test_another_rank_knows_the_paths_and_touches_nothing(tmp_path: Path) -> None:
    with RunFolder.unlocked(tmp_path / "a") as run:
        assert run.metrics_path == tmp_path / "a" / "metrics.jsonl"
    assert not (tmp_path / "a").exists()


def test_resuming_an_absent_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"no folder .*leave out --resume"):
        RunFolder.resume(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_resuming_a_folder_that_is_no_run_touches_nothing_in_it(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match="not a run folder"):
        RunFolder.resume(tmp_path)
    with pytest.raises(RunFolderError, match="not empty"):
        RunFolder.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("below", ["", "inner"], ids=["a file", "below a file"])
def test_a_path_that_is_a_file_is_refused_at_the_start(tmp_path: Path, below: str) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(RunFolderError, match="Not a directory"):
        RunFolder.create(tmp_path / "a" / below)


@pytest.mark.parametrize("name", [".lock", ".tmp-.probe"], ids=["lock", "probe"])
def test_a_read_only_folder_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real_open = os.open

    def read_only(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR) and os.path.basename(path).startswith(name):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(RunFolderError, match=r"cannot be written.*Read-only"):
        RunFolder.create(tmp_path / "a")
    monkeypatch.undo()
    RunFolder.create(tmp_path / "a").close()  # the refused start did not keep the lock


def test_leftovers_of_a_killed_run_are_cleaned_at_the_next_start(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "a").close()
    (tmp_path / "a" / ".tmp-model-2000000000").mkdir()
    (tmp_path / "a" / "checkpoints" / ".trash-step-00000001").mkdir()
    with RunFolder.resume(tmp_path / "a") as run:
        assert list(run.checkpoints_path.iterdir()) == []
        assert not (run.path / ".tmp-model-2000000000").exists()


def test_a_second_process_is_refused_and_a_killed_one_leaves_no_lock(
    tmp_path: Path, fork: Callable[[Callable[[], None]], int]
) -> None:
    RunFolder.create(tmp_path / "a").close()
    reader, writer = os.pipe()

    def hold() -> None:
        with RunFolder.resume(tmp_path / "a"):
            os.write(writer, b"held")
            signal.pause()

    child = fork(hold)
    os.close(writer)
    with os.fdopen(reader, "rb") as messages:
        assert messages.read(4) == b"held"
    with pytest.raises(RunFolderError, match=f"in use by process {child}\\b"):
        RunFolder.resume(tmp_path / "a")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "a" / ".lock").read_text() == str(child)
    RunFolder.resume(tmp_path / "a").close()


def test_a_forked_worker_does_not_hold_the_lock_on(
    tmp_path: Path, fork: Callable[[Callable[[], None]], int]
) -> None:
    run = RunFolder.create(tmp_path / "a")
    reader, writer = os.pipe()

    def work() -> None:
        os.write(writer, b"up")
        signal.pause()

    fork(work)
    os.close(writer)
    with os.fdopen(reader, "rb") as messages:
        assert messages.read(2) == b"up"
    run.close()
    RunFolder.resume(tmp_path / "a").close()


def test_a_forked_worker_does_not_release_the_lock(
    tmp_path: Path, fork: Callable[[Callable[[], None]], int]
) -> None:
    with RunFolder.create(tmp_path / "a"):
        os.waitpid(fork(lambda: None), 0)
        with pytest.raises(RunFolderError, match="in use"):
            RunFolder.resume(tmp_path / "a")


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_metric_reads_back_to_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, value: float
) -> None:
    with RunFolder.create(tmp_path_factory.mktemp("run")) as run:
        run.append_metrics({"step": 1, "loss": value})
        read = json.loads(run.metrics_path.read_text())["loss"]
    assert struct.pack("<d", read) == struct.pack("<d", value)


def test_a_value_that_is_not_finite_is_null(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "a") as run:
        run.append_metrics({"step": 1, "split": "train", "perplexity": float("inf")})
        assert run.metrics_path.read_text() == '{"step": 1, "split": "train", "perplexity": null}\n'


def test_metrics_after_the_resumed_step_are_cut_byte_for_byte(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RunFolder.create(tmp_path / "a") as run:
        kept = b'{"step":1, "loss":0.50}\n{"step": 2}\n{"step": 2, "split": "validation"}\n'
        run.metrics_path.write_bytes(kept + b'{"step": 3}\n[]\n{"step": 2, "lo')
        with caplog.at_level(logging.WARNING, "seqmlm"):
            run.truncate_metrics(after_step=2)
        assert run.metrics_path.read_bytes() == kept
    assert [record.getMessage().rsplit(":", 2)[1] for record in caplog.records] == ["5", "6"]


def test_a_complete_last_line_without_its_newline_is_kept(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "a") as run:
        run.metrics_path.write_text('{"step": 1}')
        run.truncate_metrics(after_step=1)
        run.append_metrics({"step": 2})
        assert run.metrics_path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_run_without_metrics_has_none_to_cut(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "a") as run:
        run.truncate_metrics(after_step=0)
        assert not run.metrics_path.exists()


def test_a_full_disk_is_a_clear_error_of_the_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with RunFolder.create(tmp_path / "a") as run:
        monkeypatch.setattr(Path, "open", full)
        with pytest.raises(RunFolderError, match=r"metrics\.jsonl cannot be written: No space"):
            run.append_metrics({"step": 1})


def test_the_environment_has_versions_and_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "hunter2")
    monkeypatch.chdir(tmp_path)
    with RunFolder.create(tmp_path / "a") as run:
        run.write_environment()
        text = run.environment_path.read_text()
    assert {"python", "torch", "triton", "numpy", "seqmlm", "platform", "threads", "argv"} <= set(
        json.loads(text)
    )
    assert json.loads(text)["git_commit"] is None
    assert "hunter2" not in text
