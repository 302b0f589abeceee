"""The process of the HTTP service: its address, its token, its start and its end."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn

from seqmlm.errors import ConfigError
from seqmlm_domains.code.serving.http.application import create_application
from seqmlm_domains.code.serving.http.connection import guarded_connection
from seqmlm_domains.code.serving.http.guard import LOOPBACK_NAMES, Guard, GuardRules
from seqmlm_domains.code.serving.http.service import CompletionService
from seqmlm_domains.code.serving.http.token_bucket import TokenBuckets
from seqmlm_domains.code.serving.loading import load_completer
from seqmlm_domains.code.serving.process_end import end_at_once
from seqmlm_domains.code.serving.settings import TOKEN_VARIABLE

if TYPE_CHECKING:
    from seqmlm_domains.code.serving.settings import ServerSettings

logger = logging.getLogger(__name__)

_WILDCARDS: Final = {"0.0.0.0", "::", "[::]", ""}
_BACKLOG: Final = 2_048
# Each write to a socket gives the interpreter lock away, and while the inference thread runs Python
# it comes back after Python's default of 5 ms only: 15 ms for a refusal of three writes.
_SWITCH_INTERVAL_S: Final = 0.0005


def run_service(run: Path, settings: ServerSettings) -> None:
    """Serve completions over HTTP until SIGTERM or SIGINT; then answer what was asked and return.

    Requests that are under way at the signal are answered, for ``drain_timeout_s`` at most; new
    connections are refused.

    Args:
        run: a run folder of domain ``code``, or its model.
        settings: of the server.

    Raises:
        ConfigError: the address cannot be listened on, is not of this machine and there is no
            token, or the token cannot be read.
        CheckpointError: the model cannot be read.
    """
    token = read_token(settings.token_file, os.environ)
    check_address(settings.host, has_token=token is not None)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)

    with closing(_bind(settings.host, settings.port)) as listener:
        service = CompletionService(lambda: load_completer(run, settings), settings)
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        # Told at every log level: with port 0 nothing else says where to go.
        print(f"listening on http://{shown}:{port}", file=sys.stderr, flush=True)
        server = make_server(guarded_application(service, token=token), settings)

        def stop(*_: object) -> None:
            server.should_exit = True

        # For signals before uvicorn's own handlers are there, and for the one that it raises again
        # after it has drained: an orderly end is exit code 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        try:
            server.run(sockets=[listener])
        finally:
            service.queue.close()
    logger.info("stopped")
    if service.queue.is_alive:
        end_at_once(0)


def guarded_application(service: CompletionService, *, token: bytes | None) -> Guard:
    """Return the routes over a service behind the guard.

    Args:
        service: answers.
        token: bearer token that is asked for; None: none.
    """
    settings = service.settings
    own_names = {*LOOPBACK_NAMES, *map(str.lower, settings.allowed_hosts), settings.host.lower()}
    return Guard(
        create_application(service),
        rules=GuardRules(
            hosts=sorted(own_names - _WILDCARDS),
            token=token,
            max_body_bytes=settings.max_body_bytes,
            body_timeout_s=settings.read_timeout_s,
        ),
        buckets=TokenBuckets(
            tokens_per_s=settings.client_requests_per_s, burst=settings.client_burst
        ),
        queue=service.queue,
        metrics=service.metrics,
    )


def read_token(path: str, environment: Mapping[str, str]) -> bytes | None:
    """Return the bearer token from its file or else from the environment; None if in neither.

    Raises:
        ConfigError: the file cannot be read, is empty or readable by others than its owner.
    """
    if not path:
        return environment.get(TOKEN_VARIABLE, "").strip().encode() or None
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        token = Path(path).read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"token_file = {path!r}: {error.strerror}.") from error
    if mode & 0o077:
        raise ConfigError(
            f"token_file = {path!r}: others than its owner may open it (mode {mode:o}): chmod 600."
        )
    if not token:
        raise ConfigError(f"token_file = {path!r}: the file is empty; write a token into it.")
    return token


def check_address(host: str, *, has_token: bool) -> None:
    """Let only this machine's own users in, unless they must show a token.

    Raises:
        ConfigError: the host is not of loopback and there is no token.
    """
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        is_loopback = False
    if not (is_loopback or has_token):
        raise ConfigError(
            f"host = {host!r}: other machines could read completions of your source. Use 127.0.0.1,"
            f" or ask for a token: put one into {TOKEN_VARIABLE} or a token_file."
        )


def make_server(application: Guard, settings: ServerSettings) -> uvicorn.Server:
    """Return a server that still has to be run, with its time limits."""
    config = uvicorn.Config(
        application,
        http=guarded_connection(headers_timeout_s=settings.read_timeout_s, admission=application),
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        log_level="warning",
        access_log=False,
        # An X-Forwarded-For that anyone may send must not choose the bucket of a client.
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=max(1, round(settings.read_timeout_s)),
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout_s)),
    )
    return uvicorn.Server(config)


def _bind(host: str, port: int) -> socket.socket:
    listener = None
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ConfigError(
            f"host = {host!r}, port = {port}: {error.strerror or error}; 0 takes any free port."
        ) from error
    return listener
