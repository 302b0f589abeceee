"""What a run logs, and the file that keeps it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_logger = logging.getLogger("seqmlm")


@contextmanager
def log_level(level: int) -> Iterator[None]:
    """Let the package log from ``level`` on, also where nobody has set up logging."""
    previous = _logger.level
    _logger.setLevel(level)
    try:
        yield
    finally:
        _logger.setLevel(previous)


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Copy the log of the package to a file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _logger.addHandler(handler)
    try:
        yield
    finally:
        _logger.removeHandler(handler)
        handler.close()
