"""Files and folders that are either complete on disk or not there at all.

The protocol is the one of databases: write under a temporary name in the same folder, fsync the
content, rename, fsync the folder. A killed process leaves at most one ``.tmp-*`` or ``.trash-*``
entry, which :func:`remove_leftovers` clears.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from seqmlm.errors import CheckpointError, SeqmlmError

_TEMPORARY = re.compile(r"\.tmp-.+-(\d{1,10})")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_file(
    path: Path, content: bytes | str, *, error: type[SeqmlmError] = CheckpointError
) -> None:
    """Replace or create a file so that a reader sees the old content or the new, never a part.

    Args:
        path: the file; its folder must exist.
        content: text is written as UTF-8.
        error: class of the exception raised for an operating-system error.

    Raises:
        SeqmlmError: of class ``error``. The previous file is intact and no temporary file is left;
            only when the very last step fails, the fsync of the folder, is the new content in
            place (and might not survive a power cut).
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = _temporary_path(path)
    with _failures_as(error, path, needed_bytes=len(data)):
        try:
            _write_new(temporary, data)
            os.replace(temporary, path)
            _sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def new_directory(
    target: Path,
    *,
    error: type[SeqmlmError] = CheckpointError,
    needed_bytes: int | None = None,
) -> Iterator[Path]:
    """Yield a temporary directory that becomes ``target`` when the block ends without an error.

    Every file gets the read and write permissions of the directory (some libraries write 0600).

    Args:
        target: must not exist; its parent must.
        error: class of the exception raised for an operating-system or safetensors error.
        needed_bytes: size of the content, if known; refused at once when the disk has less.

    Yields:
        A directory beside ``target``. Write plain files and sub-directories into it.

    Raises:
        SeqmlmError: of class ``error``. ``target`` is then absent and nothing is left over.
    """
    temporary = _temporary_path(target)
    with _failures_as(error, target, needed_bytes=needed_bytes):
        if os.path.lexists(target):
            raise error(f"{target} exists already and is never overwritten; choose a new name.")
        _require_space(target.parent, needed_bytes)
        if temporary.exists():  # left by a killed process whose id was given out again
            shutil.rmtree(temporary)
        try:
            os.mkdir(temporary)
            yield temporary
            _sync_tree(temporary)
            os.replace(temporary, target)
            try:
                _sync(target.parent)
            except OSError:
                os.replace(target, temporary)
                raise
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def make_directory(path: Path, *, error: type[SeqmlmError] = CheckpointError) -> None:
    """Create a directory and its absent parents, each durable before the next.

    Raises:
        SeqmlmError: of class ``error``, when that fails or ``path`` is a file.
    """
    with _failures_as(error, path):
        absent = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(absent):
            with suppress(FileExistsError):  # another process was faster
                os.mkdir(folder)
            _sync(folder.parent)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def remove_directory(path: Path, *, error: type[SeqmlmError] = CheckpointError) -> None:
    """Delete a directory; a kill in between leaves a ``.trash-*``, never half of ``path``.

    Raises:
        SeqmlmError: of class ``error``, when it cannot be renamed or deleted.
    """
    trash = path.with_name(f".trash-{path.name}")
    with _failures_as(error, path):
        if trash.exists():
            shutil.rmtree(trash)
        os.replace(path, trash)
        shutil.rmtree(trash)


def remove_leftovers(folder: Path, *, error: type[SeqmlmError] = CheckpointError) -> list[Path]:
    """Delete what killed processes left in ``folder``, not in its sub-directories.

    Deletes every ``.trash-*``, and each ``.tmp-*`` whose process is gone or is this one. Call it
    before this process writes there, and only for a folder that this machine alone writes to:
    process ids mean nothing on another.

    Returns:
        The deleted paths, sorted.

    Raises:
        SeqmlmError: of class ``error``, when the folder cannot be read or an entry not deleted.
    """
    with _failures_as(error, folder):
        leftovers = sorted(path for path in folder.iterdir() if _is_leftover(path.name))
        for path in leftovers:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    return leftovers


def _is_leftover(name: str) -> bool:
    if name.startswith(".trash-"):
        return True
    match = _TEMPORARY.fullmatch(name)
    return match is not None and not _is_other_live_process(int(match[1]))


def _is_other_live_process(process_id: int) -> bool:
    # In a container every restart gets the same few ids, so our own id marks a leftover too.
    if process_id == os.getpid():
        return False
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".tmp-{path.name}-{os.getpid()}")


def _write_new(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[os.write(descriptor, remaining) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(directory: Path) -> None:
    """Fsync every file, then every directory, the deepest first."""
    permissions = directory.stat().st_mode & 0o666
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            os.chmod(Path(folder, name), permissions)
            _sync(Path(folder, name))
        _sync(Path(folder))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_space(folder: Path, needed_bytes: int | None) -> None:
    free_bytes = _free_bytes(folder)
    if needed_bytes is not None and free_bytes is not None and free_bytes < needed_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _free_bytes(folder: Path) -> int | None:
    """Bytes this user may still write there; None if the folder cannot be asked."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


@contextmanager
def _failures_as(
    error: type[SeqmlmError], path: Path, *, needed_bytes: int | None = None
) -> Iterator[None]:
    """Turn operating-system and safetensors errors into ``error`` with path and disk space."""
    try:
        yield
    except (OSError, SafetensorError) as cause:
        needed = "" if needed_bytes is None else f" Needed: {needed_bytes:,} bytes."
        free_bytes = _free_bytes(path.parent)
        free = "" if free_bytes is None else f" Free: {free_bytes:,} bytes."
        remedy = "Free some space" if _is_out_of_space(cause) else "Check the disk and its access"
        raise error(
            f"{path} cannot be written: {cause}.{needed}{free} {remedy}, or choose another folder."
        ) from cause


def _is_out_of_space(cause: OSError | SafetensorError) -> bool:
    if isinstance(cause, OSError):
        return cause.errno in _NO_SPACE
    # safetensors passes on the text and number of the system's error only.
    return any(f"os error {number}" in str(cause) for number in _NO_SPACE)
