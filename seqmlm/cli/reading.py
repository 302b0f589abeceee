"""What was read, and how far the work is, on standard error."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from seqmlm.data.report import ReadReport


def print_report(report: ReadReport) -> None:
    """Log what became of the records."""
    for line in report.lines():
        logging.getLogger("seqmlm").info(line)


def show_progress(text: str) -> None:
    """Overwrite one line on a terminal; print nothing elsewhere."""
    if sys.stderr.isatty() and logging.getLogger().isEnabledFor(logging.INFO):
        print(f"\r{text}", end="", file=sys.stderr, flush=True)


def end_progress() -> None:
    """Leave the line that :func:`show_progress` overwrote."""
    show_progress("\n")


def progress_console() -> Console | None:
    """Return where a progress bar goes; None if the user wants warnings alone."""
    from rich.console import Console

    return Console(stderr=True) if logging.getLogger().isEnabledFor(logging.INFO) else None
