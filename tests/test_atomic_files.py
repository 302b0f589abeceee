from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from seqmlm.atomic_files import (
    make_directory,
    new_directory,
    remove_directory,
    remove_leftovers,
    write_file,
)
from seqmlm.errors import CheckpointError, DataError, RunFolderError

DEAD_PROCESS = 2_000_000_000  # above the largest process id Linux can give


def fail_call(monkeypatch: pytest.MonkeyPatch, *, number: int, code: int) -> None:
    """Make call ``number`` of the writing functions of ``os`` fail."""
    count = 0

    def failing(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                raise OSError(code, os.strerror(code))
            return original(*args, **kwargs)

        return call

    for name in ("open", "write", "fsync", "replace", "mkdir"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_nothing_is_left_over(tmp_path: Path) -> None:
    write_file(tmp_path / "a", "old")
    write_file(tmp_path / "a", "né")
    assert (tmp_path / "a").read_bytes() == b"n\xc3\xa9"
    assert names(tmp_path) == ["a"]


def test_a_new_file_has_the_permissions_the_user_asked_for(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        write_file(tmp_path / "a", b"")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EINTR])
def test_any_failing_call_leaves_the_previous_file(tmp_path: Path, code: int) -> None:
    path = tmp_path / "a"
    write_file(path, "old")
    # open, write, fsync, replace; open and fsync of the folder
    for n in range(1, 7):
        with pytest.MonkeyPatch.context() as patch:
            fail_call(patch, number=n, code=code)
            with pytest.raises(DataError, match=os.strerror(code)):
                write_file(path, "new", error=DataError)
        # The last two calls fsync the folder: the new file has its name by then.
        assert path.read_text() == ("new" if n >= 5 else "old")
        assert names(tmp_path) == ["a"]
        write_file(path, "old")
    with pytest.MonkeyPatch.context() as patch:
        fail_call(patch, number=7, code=code)
        write_file(path, "new")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_any_failing_call_leaves_no_directory(tmp_path: Path, code: int) -> None:

    def write() -> None:
        with new_directory(tmp_path / "a") as folder:
            (folder / "file").write_text("content")

    # mkdir; open and fsync of the file, then of the folder; replace; open and fsync of the parent
    for n in range(1, 9):
        with pytest.MonkeyPatch.context() as patch:
            fail_call(patch, number=n, code=code)
            with pytest.raises(CheckpointError, match=f"{tmp_path / 'a'} cannot be written"):
                write()
        assert names(tmp_path) == []
    with pytest.MonkeyPatch.context() as patch:
        fail_call(patch, number=9, code=code)
        write()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a" / "file").read_text() == "content"


def test_the_message_names_needed_and_free_bytes(tmp_path: Path) -> None:
    with (
        pytest.raises(
            CheckpointError, match=r"a cannot be written: .*space.*1,125,899,906,842,624"
        ),
        new_directory(tmp_path / "a", needed_bytes=1 << 50),
    ):
        pytest.fail("the block must not start")
    with (
        pytest.raises(CheckpointError, match=r"os error 28.*Free: [\d,]+ bytes\. Free some space"),
        new_directory(tmp_path / "a"),
    ):
        raise SafetensorError("I/O error: No space left on device (os error 28)")
    assert names(tmp_path) == []


def test_an_error_of_the_block_passes_and_removes_the_directory(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        path.touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), new_directory(tmp_path / "a") as folder:
        interrupted(folder / "file")
    assert names(tmp_path) == []


def test_an_existing_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with (
        pytest.raises(RunFolderError, match="exists already"),
        new_directory(tmp_path / "a", error=RunFolderError),
    ):
        pytest.fail("the block must not start")


def test_private_files_of_libraries_become_readable_like_their_folder(tmp_path: Path) -> None:
    with new_directory(tmp_path / "a") as folder:
        folder.chmod(0o755)
        (folder / "inner").mkdir()
        (folder / "inner" / "file").touch(mode=0o600)
    assert stat.S_IMODE((tmp_path / "a" / "inner" / "file").stat().st_mode) == 0o644


def test_a_leftover_of_a_reused_process_id_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / f".tmp-a-{os.getpid()}").mkdir()
    (tmp_path / f".tmp-a-{os.getpid()}" / "half").touch()
    with new_directory(tmp_path / "a") as folder:
        (folder / "file").touch()
    assert names(tmp_path / "a") == ["file"]


def test_leftovers_of_dead_processes_go_and_those_of_live_ones_stay(tmp_path: Path) -> None:
    (tmp_path / f".tmp-a-{DEAD_PROCESS}").mkdir()
    (tmp_path / f".tmp-b-{DEAD_PROCESS}").touch()
    (tmp_path / ".tmp-c-9999999999").touch()
    (tmp_path / f".tmp-own-{os.getpid()}").touch()
    (tmp_path / ".trash-d").mkdir()
    kept = ["a", ".tmp-x", f".tmp-live-{os.getppid()}"]
    for name in kept:
        (tmp_path / name).touch()
    assert len(remove_leftovers(tmp_path)) == 5
    assert names(tmp_path) == sorted(kept)


@pytest.fixture
def deep_directory(tmp_path: Path) -> Path:
    path = tmp_path / "a" / "b"
    make_directory(path)
    return path


def test_make_directory_creates_parents_and_accepts_what_exists(deep_directory: Path) -> None:
    make_directory(deep_directory)
    assert deep_directory.is_dir()


def test_make_directory_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(RunFolderError, match="Not a directory"):
            make_directory(path, error=RunFolderError)


def test_a_removed_directory_is_renamed_before_anything_in_it_goes(
    deep_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = deep_directory.parent
    (parent / ".trash-b").mkdir()  # of an earlier kill

    real = shutil.rmtree
    calls: list[Path] = []

    def kill_at_second_call(path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(path)

    monkeypatch.setattr("shutil.rmtree", kill_at_second_call)
    with pytest.raises(KeyboardInterrupt):
        remove_directory(deep_directory)
    assert names(parent) == [".trash-b"]
    monkeypatch.undo()
    remove_leftovers(parent)
    assert names(parent) == []
