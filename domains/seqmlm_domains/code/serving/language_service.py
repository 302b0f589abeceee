"""The process of the language server: its model, its clients, its end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

from lsprotocol import types

from seqmlm.errors import ConfigError, SeqmlmError
from seqmlm.model.model_folder import find_model_folder, read_model_config
from seqmlm_domains.code.serving.channels import (
    Channel,
    SocketChannel,
    StandardStreams,
    take_standard_streams,
)
from seqmlm_domains.code.serving.completion_queue import CompletionQueue
from seqmlm_domains.code.serving.frames import FrameReader, StreamLost, UnreadableFrame
from seqmlm_domains.code.serving.language_server import CompletionServer
from seqmlm_domains.code.serving.loading import load_completer
from seqmlm_domains.code.serving.process_end import end_at_once
from seqmlm_domains.code.serving.served_model import ServedModel
from seqmlm_domains.code.serving.settings import ServerSettings

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
    """One model and the clients that ask it, from before it is loaded on.

    Args:
        model: answers completions.
        settings: of the process.
    """

    def __init__(self, model: ServedModel, *, settings: ServerSettings) -> None:
        self._model = model
        self._settings = settings
        self._client_numbers = count(1)
        self._clients: set[CompletionServer] = set()

    async def load_model(self) -> None:
        """Load the model and tell every client of it.

        Raises:
            ConfigError, CheckpointError: it cannot be loaded, which the clients are told too.
        """
        try:
            await self._model.load()
        except SeqmlmError as error:
            for client in self._initialized():
                client.show(types.MessageType.Error, f"the model cannot be loaded: {error}")
            raise
        logger.info("model loaded")
        for client in self._initialized():
            client.tell_of_model()

    async def serve_client(self, channel: Channel) -> int:
        """Answer a client until it leaves; returns the exit code that LSP has for the way it did.

        Cancelled, it ends the connection.
        """
        name = f"client-{next(self._client_numbers)}"
        server = CompletionServer(self._model, settings=self._settings, name=name)
        # pygls would close it on ``exit``, which never reaches pygls.
        server.protocol.set_writer(channel)  # type: ignore[arg-type]
        self._clients.add(server)
        logger.info("%s connected", name)
        try:
            await _receive(server, channel)
        finally:
            self._clients.remove(server)
            await server.protocol.abandon()
            await channel.close()
            logger.info("%s left", name)
        return server.protocol.exit_code

    def _initialized(self) -> list[CompletionServer]:
        return [client for client in self._clients if client.is_initialized]


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
    # A wrong folder is a mistake of who starts the server: said before anyone is answered.
    read_model_config(find_model_folder(run))

    model = ServedModel(lambda: load_completer(run, settings), settings)
    code = asyncio.run(_serve(model, LanguageService(model, settings=settings), serve))
    if model.is_busy:
        end_at_once(code)
    return code


async def _serve(
    model: ServedModel,
    service: LanguageService,
    serve: Callable[[LanguageService], Awaitable[int]],
) -> int:
    """Serve while the model is being loaded, and on; an error of loading ends it."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_without_content)
    loading = asyncio.ensure_future(service.load_model())
    serving = asyncio.ensure_future(serve(service))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    try:
        await asyncio.wait((loading, serving), return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            await loading
        return await serving
    except asyncio.CancelledError:
        return 0
    finally:
        loading.cancel()
        serving.cancel()
        await asyncio.gather(loading, serving, return_exceptions=True)
        if model.queue is not None:
            _log_statistics(model.queue)
        model.close()


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
