"""The model of a process that answers before its model is there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from seqmlm_domains.code.serving.completion_queue import CompletionQueue

if TYPE_CHECKING:
    from seqmlm_domains.code.completion.completer import Completer
    from seqmlm_domains.code.serving.settings import ServerSettings


class AlreadyReading(Exception):
    """The model is being read: a second one beside it would cost its memory again."""


class ServedModel:
    """A model and its queue, once it is loaded.

    Args:
        read: reads the completer; takes seconds, in which editors would give up a server that is
            silent, and is therefore called on a thread of its own.
        settings: of the process.
    """

    def __init__(self, read: Callable[[], Completer], settings: ServerSettings) -> None:
        self._read = read
        self._settings = settings
        self._queue: CompletionQueue | None = None
        self._being_read: Future[Completer] | None = None

    @property
    def queue(self) -> CompletionQueue | None:
        """Answers completions; None until the model is loaded."""
        return self._queue

    @property
    def is_reading(self) -> bool:
        """Whether a thread still reads the model, if only for a caller that has gone."""
        return self._being_read is not None and not self._being_read.done()

    async def load(self) -> None:
        """Read the model, or read it again: the next batch is answered with it.

        Raises:
            AlreadyReading: it is being read, if only for a caller that has gone.
            ConfigError, CheckpointError: it cannot be read; one of before goes on.
        """
        if self.is_reading:
            raise AlreadyReading
        completer = await self._read_beside()
        if self._queue is None:
            self._queue = CompletionQueue(
                completer,
                capacity=self._settings.queue_capacity,
                max_batch=self._settings.max_batch,
            )
        else:
            self._queue.replace(completer)

    @property
    def is_busy(self) -> bool:
        """Whether a thread still reads the model or computes with it, :meth:`close` or not."""
        return self.is_reading or (self._queue is not None and self._queue.is_alive)

    def close(self) -> None:
        """Fail what still waits for an answer, and end the threads of the queue."""
        if self._queue is not None:
            self._queue.close()

    async def _read_beside(self) -> Completer:
        """A daemon reads: asyncio would wait for a thread of its own at the end of the process."""
        completer: Future[Completer] = Future()
        self._being_read = completer
        threading.Thread(
            target=self._read_into, args=(completer,), name="seqmlm-reading", daemon=True
        ).start()
        return await asyncio.wrap_future(completer)

    def _read_into(self, completer: Future[Completer]) -> None:
        if not completer.set_running_or_notify_cancel():
            return
        try:
            completer.set_result(self._read())
        except BaseException as error:
            completer.set_exception(error)  # raised where it is awaited
