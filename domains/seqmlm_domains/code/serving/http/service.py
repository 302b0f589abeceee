"""A model behind a queue, as the routes see it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Final

from seqmlm.errors import SeqmlmError
from seqmlm_domains.code.serving.completion_queue import CompletionQueue
from seqmlm_domains.code.serving.http.metrics import ServiceMetrics

if TYPE_CHECKING:
    from seqmlm_domains.code.completion.completer import Completer
    from seqmlm_domains.code.serving.settings import ServerSettings

logger = logging.getLogger(__name__)

STUCK_AFTER_S: Final = 5.0
"""A batch that takes longer means that the model is stuck."""


class NotReloaded(Exception):
    """The model could not be exchanged; that of before goes on."""


class CompletionService:
    """What the routes answer from.

    Args:
        load: reads the model; called now, and again at each :meth:`reload`.
        settings: of the server.
    """

    def __init__(self, load: Callable[[], Completer], settings: ServerSettings) -> None:
        self.settings = settings
        self.queue = CompletionQueue(
            load(), capacity=settings.queue_capacity, max_batch=settings.max_batch
        )
        self.metrics = ServiceMetrics(self.queue.statistics)
        self._load, self._reloads = load, asyncio.Lock()

    @cached_property
    def device(self) -> str:
        """Kind of device that the model runs on: cpu or cuda."""
        # Imports torch, which a real completer has done before.
        from seqmlm.training.distributed import choose_device

        return choose_device(self.settings.device).type

    def obstacle(self) -> str | None:
        """Return why the model would not answer now, in a word; None if it would."""
        if not self.queue.is_alive:
            return "stopped"
        if not self.queue.accepts:
            return "draining"
        if self.queue.batch_running_s > STUCK_AFTER_S:
            return "stuck"
        return None

    async def reload(self) -> None:
        """Read the model again, on another thread, and answer with it from the next batch on.

        Raises:
            NotReloaded: it cannot be read, or is being read already.
        """
        if self._reloads.locked():
            raise NotReloaded("The model is being reloaded already.")
        async with self._reloads:
            try:
                self.queue.replace(await asyncio.to_thread(self._load))
            except SeqmlmError as error:
                logger.error("The model was not reloaded: %s", error)
                raise NotReloaded(
                    "The new model cannot be read, that of before goes on; the log says why."
                ) from error
        logger.info("The model was reloaded.")
