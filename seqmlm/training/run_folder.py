"""The folder of a run: who may write to it, what lies where, its log of metrics."""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import platform
import subprocess
import sys
import weakref
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from seqmlm.atomic_files import make_directory, remove_leftovers, write_file
from seqmlm.errors import RunFolderError

_LOCK_NAME = ".lock"
_PACKAGES = ("seqmlm", "torch", "triton", "numpy", "safetensors")
_logger = logging.getLogger("seqmlm")


class RunFolder:
    """A run's folder, locked for this process until :meth:`close` or the end of the process.

    ``with RunFolder.create(path) as run: ...``; made by :meth:`create` or :meth:`resume`. The lock
    is the kernel's: it is gone with a killed process. Other ranks use :meth:`unlocked`.
    """

    def __init__(self, path: Path, lock: int | None) -> None:
        self.path = path
        self._lock = lock
        if lock is not None:
            # A forked worker inherits the lock and would hold it on after this process is killed.
            close_in_child = weakref.WeakMethod(self.close)
            os.register_at_fork(after_in_child=lambda: _call(close_in_child))

    @classmethod
    def create(cls, path: Path) -> Self:
        """Open a folder for a new run; it must be absent or hold no files.

        Raises:
            RunFolderError: the folder has files, is in use or cannot be written, or is a file.
        """
        _require_no_files(path)
        run = cls._open(path)
        try:
            _require_no_files(path)  # another process may have come and gone before the lock
        except RunFolderError:
            run.close()
            raise
        return run

    @classmethod
    def resume(cls, path: Path) -> Self:
        """Open the folder of an earlier run to go on with it.

        Raises:
            RunFolderError: there is no run in the folder, or it is in use or cannot be written.
        """
        require_run(path)
        return cls._open(path)

    @classmethod
    def unlocked(cls, path: Path) -> Self:
        """Only the paths of a run that the main process of this job has opened; creates nothing."""
        return cls(path, None)

    @classmethod
    def _open(cls, path: Path) -> Self:
        make_directory(path, error=RunFolderError)
        run = cls(path, _acquire_lock(path / _LOCK_NAME))
        try:
            for folder in (path, run.checkpoints_path, run.plots_path):
                make_directory(folder, error=RunFolderError)
                remove_leftovers(folder, error=RunFolderError)
            run._probe()
        except RunFolderError:
            run.close()
            raise
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock; the ``.lock`` file stays, for removing it would let two in at once."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def config_path(self) -> Path:
        """The resolved configuration, TOML."""
        return self.path / "config.toml"

    @property
    def environment_path(self) -> Path:
        """Versions and machine of the latest start, JSON."""
        return self.path / "environment.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON object a line, see :meth:`append_metrics`."""
        return self.path / "metrics.jsonl"

    @property
    def log_path(self) -> Path:
        """The log for people."""
        return self.path / "train.log"

    @property
    def plots_path(self) -> Path:
        """Folder of plots."""
        return self.path / "plots"

    @property
    def checkpoints_path(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def best_path(self) -> Path:
        """Folder of the best weights so far, where ``training.select`` asks for them."""
        return self.path / "best"

    @property
    def model_path(self) -> Path:
        """Folder of the exported model; does not exist before the export."""
        return self.path / "model"

    def write_environment(self) -> None:
        """Record versions, platform, threads, command line and git commit of this process.

        No environment variable is recorded: they hold secrets.

        Raises:
            RunFolderError: the file cannot be written.
        """
        environment = {
            "python": platform.python_version(),
            **{package: _installed_version(package) for package in _PACKAGES},
            "platform": platform.platform(),
            "processor": platform.machine(),
            "processor_count": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "cuda": torch.version.cuda,
            "argv": sys.argv,
            "git_commit": _git_commit(),
        }
        write_file(
            self.environment_path, json.dumps(environment, indent=2) + "\n", error=RunFolderError
        )

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl`` and hand it to the operating system.

        Floats are printed as the shortest text that reads back to the same value, so equal floats
        are equal text; a value that is not finite is null, for JSON has no word for it.

        Args:
            record: has ``step``; values are JSON types.

        Raises:
            RunFolderError: the file cannot be written.
        """
        finite = _without_non_finite(record)
        try:
            with self.metrics_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite, allow_nan=False) + "\n")
        except OSError as error:
            raise RunFolderError(
                f"{self.metrics_path} cannot be written: {error.strerror}. Free some space or "
                "check the disk."
            ) from error

    def truncate_metrics(self, *, after_step: int) -> None:
        """Drop the lines of steps that a resumed run does again, atomically.

        A line that is no JSON object with a step, such as the half-written last line of a killed
        process, is dropped with a warning.

        Args:
            after_step: the resumed step; lines with a greater step are dropped.

        Raises:
            RunFolderError: the file cannot be rewritten.
        """
        if not self.metrics_path.exists():
            return
        lines = self.metrics_path.read_bytes().split(b"\n")
        kept = []
        for number, line in enumerate(lines, start=1):
            step = _step_of(line)
            if step is None and line:
                _logger.warning("%s:%d: incomplete line dropped", self.metrics_path, number)
            elif step is not None and step <= after_step:
                kept.append(line + b"\n")
        write_file(self.metrics_path, b"".join(kept), error=RunFolderError)

    def last_step(self, split: str) -> int | None:
        """Return the step of the newest line of ``split`` in complete metrics; None without one."""
        if not self.metrics_path.exists():
            return None
        records = map(json.loads, self.metrics_path.read_bytes().splitlines())
        return max((record["step"] for record in records if record["split"] == split), default=None)

    def _probe(self) -> None:
        probe = self.path / ".probe"
        write_file(probe, b"", error=RunFolderError)
        probe.unlink()


def require_run(path: Path) -> None:
    """Check that a folder holds a run that can be resumed.

    Raises:
        RunFolderError: it does not exist, or nothing in it is of a run.
    """
    if not path.exists():
        raise RunFolderError(
            f"There is no folder {path} to resume. Check the path, or leave out --resume to "
            "start a new run there."
        )
    if not (path / "config.toml").exists() and not (path / "checkpoints").exists():
        raise RunFolderError(
            f"{path} is not a run folder: it has neither config.toml nor checkpoints/. "
            "Check the path, or leave out --resume to start a new run elsewhere."
        )


def _call(method: weakref.WeakMethod[Any]) -> None:
    if (bound := method()) is not None:
        bound()


def _require_no_files(path: Path) -> None:
    for folder, _, names in os.walk(path):
        present = [name for name in names if name != _LOCK_NAME]
        if present:
            raise RunFolderError(
                f"{path} is not empty (it has {Path(folder, present[0]).relative_to(path)}). "
                "Pass --resume to go on with the run in it, or choose another folder."
            )


def _acquire_lock(path: Path) -> int:
    """Descriptor of the locked file; it holds the id of this process, for the others' message."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunFolderError(
            f"{path.parent} cannot be written: {error.strerror}. Choose another folder."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace") or "unknown"
        os.close(descriptor)
        raise RunFolderError(
            f"{path.parent} is in use by process {holder}. Wait for it to end, stop it, or choose "
            "another folder."
        ) from error
    except OSError as error:
        os.close(descriptor)
        raise RunFolderError(
            f"{path.parent} cannot be locked: {error.strerror}. Choose a folder on a local disk."
        ) from error
    return descriptor


def _step_of(line: bytes) -> int | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    step = record.get("step") if isinstance(record, dict) else None
    return step if isinstance(step, int) else None


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Commit of the repository the run was started in, if there is one."""
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def _without_non_finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_non_finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
