"""Signals that stop a run cleanly, or make it save, between two steps."""

from __future__ import annotations

import faulthandler
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_STANDARD_ERROR = 2


class StopSignals:
    """Turns signals into requests that the training loop looks at between steps.

    ======= ====================================================================================
    SIGTERM stop after this step with exit code 143 (what schedulers send before they kill)
    SIGHUP  the same with exit code 129 (the terminal was closed)
    SIGINT  once: stop after this step with exit code 130; twice: ``KeyboardInterrupt`` at once
    SIGUSR1 save a checkpoint after this step and go on
    SIGUSR2 print the stacks of all threads to standard error and go on
    ======= ====================================================================================

    A context manager; the previous handlers are back after the block. Handlers only set flags, so
    no step and no save is torn. Python lets only the main thread handle signals: in any other
    thread the block changes nothing and no request ever arrives.

    Example:
        ``with StopSignals() as signals: ... if signals.stop_requested is not None: save, exit``
    """

    def __init__(self) -> None:
        self._exit_code: int | None = None
        self._was_interrupted = False
        self._save_requested = False
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def stop_requested(self) -> int | None:
        """Exit code to end with after saving, of the first signal to come; None: go on."""
        return self._exit_code

    def take_save_request(self) -> bool:
        """Whether a save was asked for since the last call; answers True once for each request."""
        requested, self._save_requested = self._save_requested, False
        return requested

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            handlers = {
                signal.SIGTERM: self._stop,
                signal.SIGHUP: self._stop,
                signal.SIGINT: self._interrupt,
                signal.SIGUSR1: self._save,
            }
            for number, handler in handlers.items():
                self._previous[number] = signal.signal(number, handler)
            faulthandler.register(signal.SIGUSR2, file=_STANDARD_ERROR, all_threads=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._previous:
            return
        faulthandler.unregister(signal.SIGUSR2)
        for number, previous in self._previous.items():
            # None stands for a handler that was not set from Python and cannot be set again.
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self._previous.clear()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._exit_code is None:
            self._exit_code = 128 + number

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._was_interrupted:
            raise KeyboardInterrupt
        self._was_interrupted = True
        self._stop(number, frame)

    def _save(self, number: int, frame: FrameType | None) -> None:
        self._save_requested = True
