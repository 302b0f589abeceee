"""How far a fit is, and how much longer it takes: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from rich.console import Console

from seqmlm.training.display import progress_bars
from seqmlm_domains.code.completion.fitting_progress import FittingProgress

_PLAIN_LINE_EVERY_S: Final = 10.0


class FittingDisplay:
    """Shows the phases of a fit one after the other.

    Args:
        console: where to; None shows nothing.
        clock: seconds, which never go back.
    """

    def __init__(
        self, console: Console | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._clock = console, clock
        self._began_at = self._told_at = clock()
        self._bars = progress_bars(console)

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def show(self, progress: FittingProgress) -> None:
        """Show how far the fit is."""
        now = self._clock()
        begins, ends = progress.done == 0, progress.done == progress.total
        if begins:
            self._began_at = now
        state = progress.unit
        if progress.done and not ends:
            left_s = (now - self._began_at) / progress.done * (progress.total - progress.done)
            state += f"  {timedelta(seconds=round(left_s))} left"
        if self._bars is not None:
            if begins:
                self._task = self._bars.add_task(progress.phase, total=progress.total, state=state)
            self._bars.update(self._task, completed=progress.done, state=state)
        elif self._console is not None and (
            begins or ends or now - self._told_at >= _PLAIN_LINE_EVERY_S
        ):
            self._told_at = now
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            counts = f"{progress.done:,}/{progress.total:,} {state}"
            self._console.print(
                f"{stamp} {progress.phase}: {counts}", highlight=False, soft_wrap=True
            )
