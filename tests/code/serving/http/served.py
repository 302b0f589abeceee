"""A server on a free port of this machine, in this process or in one of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from seqmlm_domains.code.completion.completer import Completer
from seqmlm_domains.code.serving.http.process import guarded_application, make_server
from seqmlm_domains.code.serving.http.service import CompletionService
from seqmlm_domains.code.serving.settings import ServerSettings
from tests.code.serving.scripted_completer import ScriptedCompleter

PATIENCE_S = 30.0
JSON = {"content-type": "application/json"}


def body(prefix: str = "name = 1\nprint(na", **fields: Any) -> dict[str, Any]:
    """What a client sends."""
    return {"language": "python", "segments": {"prefix": prefix, "suffix": ")\n"}, **fields}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server in a thread of this process."""

    port: int
    service: CompletionService
    server: uvicorn.Server
    thread: threading.Thread

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> httpx.Client:
        """A client of this server, without proxies."""
        return httpx.Client(
            base_url=self.address, timeout=PATIENCE_S, trust_env=False, headers=JSON, **options
        )

    def connect(self) -> socket.socket:
        """A plain connection, for what no proper client sends."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def exchange(self, *pieces: bytes) -> bytes:
        """Send pieces and return all that comes until the server closes."""
        with self.connect() as connection:
            for piece in pieces:
                connection.sendall(piece)
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side closes, with what we have sent read to its end or not."""
    received = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            received += piece
    return received


@contextmanager
def served(
    completer: Completer | None = None,
    *,
    settings: ServerSettings | None = None,
    token: bytes | None = None,
    load: Callable[[], Completer] | None = None,
) -> Iterator[Served]:
    """Serve a completer until the end of the block; one that answers at once if none is given."""
    made = completer or ScriptedCompleter()
    settings = settings or ServerSettings(client_burst=10_000)
    service = CompletionService(load or (lambda: made), settings)
    server = make_server(guarded_application(service, token=token), settings)
    with closing(socket.create_server(("127.0.0.1", 0), backlog=2_048)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Served(
                port=listener.getsockname()[1], service=service, server=server, thread=thread
            )
        finally:
            if isinstance(made, ScriptedCompleter):
                made.let_go()
            server.should_exit = True
            thread.join(PATIENCE_S)
            service.queue.close()


@dataclass(slots=True, kw_only=True)
class ServiceProcess:
    """``seqmlm code serve --http`` in a process of its own."""

    process: subprocess.Popen[str]
    address: str
    log: list[str]
    reader: threading.Thread

    def client(self, **options: Any) -> httpx.Client:
        """A client of this service, without proxies."""
        return httpx.Client(
            base_url=self.address, timeout=PATIENCE_S, trust_env=False, headers=JSON, **options
        )

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        self.reader.join(PATIENCE_S)
        return code


@contextmanager
def service_process(
    run: Path, *settings: str, environment: dict[str, str] | None = None
) -> Iterator[ServiceProcess]:
    """Start the command, wait until it listens, and end it with the block."""
    root = Path(__file__).parents[4]
    paths = os.pathsep.join(str(root / name) for name in ("", "domains", "kernels"))
    options = [text for setting in ("port=0", *settings) for text in ("--set", setting)]
    process = subprocess.Popen(
        [sys.executable, "-m", "seqmlm", "code", "serve", str(run), "--http", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **(environment or {})},
    )
    assert process.stderr is not None
    log: list[str] = []
    address = ""
    for line in process.stderr:
        log.append(line)
        if found := re.search(r"http://[\d.]+:\d+", line):
            address = found.group().replace("0.0.0.0", "127.0.0.1")
            break
    assert address, "".join(log)
    reader = threading.Thread(target=log.extend, args=(process.stderr,))
    reader.start()
    try:
        yield ServiceProcess(process=process, address=address, log=log, reader=reader)
    finally:
        process.kill()
        process.wait()
        reader.join(PATIENCE_S)
        process.stderr.close()
