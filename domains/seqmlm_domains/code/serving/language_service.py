"""The process of the language server: its model, its clients, its end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsprotocol import types

from seqmlm.errors import ConfigError
from seqmlm_domains.code.serving.channels import (
    Channel,
    SocketChannel,
    StandardStreams,
    take_standard_streams,
)
from seqmlm_domains.code.serving.completion_queue import CompletionQueue
from seqmlm_domains.code.serving.frames import FrameReader, StreamLost, UnreadableFrame
from seqmlm_domains.code.serving.language_server import CompletionServer
from seqmlm_domains.code.serving.settings import ServerSettings

if TYPE_CHECKING:
    from seqmlm_domains.code.completion.completer import Completer

logger = logging.getLogger(__name__)


def serve_standard_streams(run: Path, settings: ServerSettings) -> int:
    """Serve the client that has started this process, on its standard input and output.

    Returns:
        Exit code: 0 if the client has shut the server down in order, or a signal has; else 1.

    Raises:
        ConfigError, CheckpointError: the model cannot be loaded.
    """
    input_descriptor, output_descriptor = take_standard_streams()

    async def serve(service: LanguageService) -> int:
        channel = StandardStreams(
            input_descriptor=input_descriptor, output_descriptor=output_descriptor
        )
        return await service.serve_client(channel)

    return _run(run, settings, serve)


def serve_tcp(run: Path, settings: ServerSettings, *, host: str, port: int) -> int:
    """Serve any number of clients of this machine until a signal comes; see :func:`parse_address`.

    A client that sends ``exit`` ends its own connection.

    Returns:
        Exit code 0.

    Raises:
        ConfigError: the address cannot be listened on.
        ConfigError, CheckpointError: the model cannot be loaded.
    """

    async def serve(service: LanguageService) -> int:
        clients: set[asyncio.Task[Any]] = set()

        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            client = asyncio.ensure_future(service.serve_client(SocketChannel(reader, writer)))
            clients.add(client)
            client.add_done_callback(clients.discard)

        try:
            listener = await asyncio.start_server(connect, host, port)
        except OSError as error:
            raise ConfigError(f"--tcp {host}:{port}: {error.strerror or error}.") from error
        logger.info("listening on %s:%d", *listener.sockets[0].getsockname()[:2])
        try:
            return await asyncio.Future()
        finally:
            listener.close()
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    return _run(run, settings, serve)


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``.

    Raises:
        ConfigError: it is not written so, or the host is not this machine: LSP knows no passwords.
    """
    host, separator, port = text.rpartition(":")
    host = host.strip("[]")
    if not separator or not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"--tcp {text}: write it as HOST:PORT, such as 127.0.0.1:8712.")
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigError(
            f"--tcp {text}: LSP has no authentication, so that the server listens on addresses "
            "of this machine alone: 127.0.0.1, [::1] or localhost."
        )
    return host, int(port)


class LanguageService:
    """One model and the clients that ask it.

    Args:
        queue: answers completions.
        settings: of the process.
        load: loads the completer of the process; slow.
    """

    def __init__(
        self, queue: CompletionQueue, *, settings: ServerSettings, load: Callable[[], Completer]
    ) -> None:
        self._queue = queue
        self._settings = settings
        self._load = load
        self._client_numbers = count(1)

    async def serve_client(self, channel: Channel) -> int:
        """Answer a client until it leaves; returns the exit code that LSP has for the way it did.

        Cancelled, it ends the connection.
        """
        name = f"client-{next(self._client_numbers)}"
        server = CompletionServer(
            self._queue, settings=self._settings, reload=self._reload, name=name
        )
        # pygls would close it on ``exit``, which never reaches pygls.
        server.protocol.set_writer(channel)  # type: ignore[arg-type]
        logger.info("%s connected", name)
        try:
            await _receive(server, channel)
        finally:
            await server.protocol.abandon()
            await channel.close()
            logger.info("%s left", name)
        return server.protocol.exit_code

    async def _reload(self) -> None:
        self._queue.replace(await asyncio.to_thread(self._load))
        logger.info("model reloaded")


async def _receive(server: CompletionServer, channel: Channel) -> None:
    frames = FrameReader(channel.read)
    while not server.protocol.has_ended:
        try:
            body = await frames.next()
        except StreamLost as fault:
            server.protocol.refuse(None, types.ErrorCodes.InvalidRequest, str(fault))
            return
        except UnreadableFrame as fault:
            server.protocol.refuse(None, types.ErrorCodes.ParseError, str(fault))
        else:
            if body is None:
                return
            server.protocol.receive(body)
        await channel.settle()


def _run(
    run: Path, settings: ServerSettings, serve: Callable[[LanguageService], Awaitable[int]]
) -> int:
    # pygls logs messages whole, source text included, and the frames of errors.
    logging.getLogger("pygls").setLevel(logging.CRITICAL + 1)

    # Only now: what importing torch prints must not reach the client.
    from seqmlm_domains.code.completion.completer import Completer

    def load() -> Completer:
        return Completer.load(run, backend=settings.backend, device=settings.device)

    completer = load()

    async def main() -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_without_content)
        queue = CompletionQueue(
            completer, capacity=settings.queue_capacity, max_batch=settings.max_batch
        )
        serving = asyncio.ensure_future(serve(LanguageService(queue, settings=settings, load=load)))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, serving.cancel)
        try:
            return await serving
        except asyncio.CancelledError:
            return 0
        finally:
            _log_statistics(queue)
            queue.close()

    return asyncio.run(main())


def _log_without_content(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Of an error that no one waits for, its kind: asyncio would log arguments of calls."""
    kind = type(context.get("exception")).__name__
    logger.error("internal error: %s in the event loop", kind)


def _log_statistics(queue: CompletionQueue) -> None:
    counts = queue.statistics()
    logger.info(
        "%d requests (%s), %d refused; p50 %.0f ms, p95 %.0f ms",
        counts.accepted,
        ", ".join(f"{number} {outcome}" for outcome, number in counts.ended.items()),
        counts.rejected,
        *(1000 * counts.latency.quantile_s(quantile) for quantile in (0.5, 0.95)),
    )
