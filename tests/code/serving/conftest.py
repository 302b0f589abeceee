"""What the tests of the servers share."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest_asyncio

from seqmlm_domains.code.completion.completer import Completer
from seqmlm_domains.code.serving.channels import SocketChannel
from seqmlm_domains.code.serving.completion_queue import CompletionQueue
from seqmlm_domains.code.serving.language_service import LanguageService
from seqmlm_domains.code.serving.settings import ServerSettings
from tests.code.serving.connection import Connect
from tests.code.serving.raw_client import RawClient
from tests.code.serving.scripted_completer import ScriptedCompleter

NEVER_MS = 60_000


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Connect]:
    """Serve clients over sockets within the process; ends all of it after the test."""
    completers: list[Completer] = []
    queues: list[CompletionQueue] = []
    serving: list[asyncio.Task[int]] = []
    clients: list[RawClient] = []

    async def connect(
        completer: Completer,
        *,
        settings: ServerSettings | None = None,
        capacity: int = 64,
        load: Callable[[], Completer] | None = None,
    ) -> RawClient:
        queue = CompletionQueue(completer, capacity=capacity, max_batch=8)
        service = LanguageService(
            queue,
            settings=settings or ServerSettings(deadline_ms=NEVER_MS),
            load=load or (lambda: completer),
        )
        ours, theirs = socket.socketpair()
        channel = SocketChannel(*await asyncio.open_connection(sock=theirs))
        serving.append(asyncio.create_task(service.serve_client(channel)))
        completers.append(completer)
        queues.append(queue)
        clients.append(RawClient(*await asyncio.open_connection(sock=ours)))
        clients[-1].server = serving[-1]
        return clients[-1]

    yield connect
    for completer in completers:
        if isinstance(completer, ScriptedCompleter):
            completer.let_go()
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)
    for client in clients:
        await client.leave()
    for queue in queues:
        queue.close()
