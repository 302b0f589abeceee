"""Progress for people: a bar on a terminal, plain lines elsewhere. Everything goes to stderr."""

from __future__ import annotations

import time
from collections import deque
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

RECENT_STEPS = 50


def progress_bars(console: Console | None) -> Progress | None:
    """Return bars with counts, a state and the time spent; None where there is no terminal."""
    if console is None or not console.is_terminal:
        return None
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        console=console,
    )


class Display:
    """Shows how far a run is, how fast, and how long it will take.

    Args:
        steps: of the whole run.
        done: steps done before, in a resumed run.
        every: steps between plain lines.
        console: where to; None shows nothing.
    """

    def __init__(self, *, steps: int, done: int, every: int, console: Console | None) -> None:
        self._steps, self._every, self._console = steps, every, console
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT_STEPS)
        self._progress = progress_bars(console)
        if self._progress is not None:
            self._task = self._progress.add_task("training", total=steps, completed=done, state="")

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def step(self, step: int, *, loss: float, tokens: int, seconds: float) -> None:
        """Show one finished step: its loss in nats, its tokens, the seconds it took."""
        self._recent.append((seconds, tokens))
        spent = sum(seconds for seconds, _ in self._recent)
        speed = sum(tokens for _, tokens in self._recent) / max(spent, 1e-9)
        left = timedelta(seconds=round(spent / len(self._recent) * (self._steps - step)))
        state = f"loss {loss:.3f}  {speed:,.0f} tokens/s  {left} left"
        if self._progress is not None:
            self._progress.update(self._task, completed=step, state=state)
        elif self._console is not None and (step % self._every == 0 or step == self._steps):
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            self._console.print(
                f"{stamp} step {step}/{self._steps}  {state}", highlight=False, soft_wrap=True
            )
