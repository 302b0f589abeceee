"""What the tests of the servers share."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest_asyncio

from seqmlm_domains.code.completion.completer import Completer
from seqmlm_domains.code.serving.channels import SocketChannel
from seqmlm_domains.code.serving.language_service import LanguageService
from seqmlm_domains.code.serving.served_model import ServedModel
from seqmlm_domains.code.serving.settings import ServerSettings
from tests.code.serving.connection import Connect
from tests.code.serving.raw_client import RawClient
from tests.code.serving.scripted_completer import ScriptedCompleter

NEVER_MS = 60_000


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Connect]:
    """Serve clients over sockets within the process; ends all of it after the test."""
    completers: list[Completer] = []
    models: list[ServedModel] = []
    serving: list[asyncio.Task[int]] = []
    clients: list[RawClient] = []

    async def connect(
        completer: Completer,
        *,
        settings: ServerSettings | None = None,
        capacity: int = 64,
        reload: Callable[[], Completer] | None = None,
    ) -> RawClient:
        settings = settings or ServerSettings(deadline_ms=NEVER_MS)
        first = [completer]

        def read() -> Completer:
            if first or reload is None:
                first.clear()
                return completer
            return reload()

        model = ServedModel(read, settings.model_copy(update={"queue_capacity": capacity}))
        service = LanguageService(model, settings=settings)
        await service.load_model()
        ours, theirs = socket.socketpair()
        channel = SocketChannel(*await asyncio.open_connection(sock=theirs))
        serving.append(asyncio.create_task(service.serve_client(channel)))
        completers.append(completer)
        models.append(model)
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
    for model in models:
        model.close()
