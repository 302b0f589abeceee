"""HTTP connections that do not wait for ever for a client to finish its headers."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar, Final, Protocol, cast

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from seqmlm_domains.code.serving.http.refusal import Refusal

BEGAN_AT: Final = "seqmlm.began_at"
"""Key in the state of a request: when its first byte was read, seconds of the monotonic clock."""

_MOST_HEAD_BYTES: Final = 32 * 1_024


class Admission(Protocol):
    """What tells of a request, before it is answered, that it is refused."""

    def admit(self, scope: Scope, *, is_whole: bool) -> Refusal | None:
        """Return the refusal, or None; ``is_whole``: the body has come."""


class JoinedWrites:
    """A transport that sends what is written during one turn of the event loop in one piece.

    uvicorn writes head and body of an answer apart; each piece that is sent costs a system call and
    gives the interpreter lock away.

    Args:
        transport: of a connection.
        loop: that it belongs to.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._pieces: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """Return what is not changed: the transport's own."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send data at the end of this turn."""
        if not self._pieces:
            self._loop.call_soon(self._send)
        self._pieces.append(data)

    def write_at_once(self, data: bytes) -> None:
        """Send data now, behind what is written."""
        self._pieces.append(data)
        self._send()

    def close(self) -> None:
        """Send what is written and close."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._pieces:
            self._transport.write(b"".join(self._pieces))
            self._pieces.clear()


class ParserWithoutUpgrades:
    """httptools' parser of requests, to which an offer of another protocol is a header as others.

    A server may answer as if nothing were offered, as HTTP has it. httptools itself stops behind
    the headers of such a request and never reads its body; Java's clients offer HTTP/2 with the
    first request of every connection. Its headers are read again without the offer.

    Args:
        connection: is told what is read.
    """

    def __init__(self, connection: HttpToolsProtocol) -> None:
        self._connection = connection
        self._parser = self._new_parser()

    def __getattr__(self, name: str) -> Any:
        """Return what is not changed: the parser's own."""
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> None:
        """Read what has come.

        Raises:
            httptools.HttpParserError: it is no HTTP, or asks for a tunnel.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            method = self._parser.get_method()
            if method == b"CONNECT":
                raise httptools.HttpParserError("This is no proxy.") from offer
            url, headers = self._connection.url, self._connection.headers
            version = self._parser.get_http_version().encode()
            kept = [b"%s: %s" % header for header in headers if header[0] != b"upgrade"]
            self._parser = self._new_parser()
            self._parser.feed_data(
                b"\r\n".join([b"%s %s HTTP/%s" % (method, url, version), *kept, b"", b""])
            )
            self.feed_data(data[offer.args[0] :])

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self._connection)
        # As uvicorn has it: requests that were sent in one piece are answered.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser


def _nothing() -> None:
    """What is left to do after an answer that is sent."""


class _Connection(HttpToolsProtocol):
    """Uvicorn's protocol with a deadline and a cap for the headers of each request.

    uvicorn itself holds a connection open for as long as a client sends a byte now and then. The
    deadline runs from the first byte (of a new connection: from its opening) to the last header;
    what arrives of a body that is no longer wanted must end within the same time. Headers that
    have not ended after 32 KiB are no HTTP of ours.

    What is refused is answered here, once all that has come of it is read: under overload that is
    most of what comes, and a task of the application would cost as much again.
    """

    headers_timeout_s: ClassVar[float]
    """Seconds until the connection is answered with 408 and closed."""
    admission: ClassVar[Admission]
    """Asked of each request that does not wait for the answer of the one before."""

    deadline: asyncio.TimerHandle | None = None
    is_in_body = False
    head_bytes = 0  # received, of a head that has not ended; the parser keeps them all
    is_reading = False
    begun: RequestResponseCycle | None = None  # the request whose head has just been read

    def connection_made(self, transport: Any) -> None:
        self.parser = cast(Any, ParserWithoutUpgrades(self))
        self.joined = JoinedWrites(transport, self.loop)
        super().connection_made(cast(asyncio.Transport, self.joined))
        self.watch()

    def data_received(self, data: bytes) -> None:
        self.head_bytes += len(data)
        self.is_reading = True
        super().data_received(data)
        self.is_reading = False
        if self.head_bytes > _MOST_HEAD_BYTES and not self.is_in_body:
            self.send_400_response("The headers are too long.")
        cycle, self.begun = self.begun, None
        if cycle is None or self.transport.is_closing() or not self.is_refused(cycle):
            self.watch()
        else:
            self.forget()  # uvicorn's time for the next request runs

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Wait for what has come of the body; a request that waited for its turn begins."""
        if self.is_reading:
            self.begun = cycle
        else:
            super()._start_asgi_task(cycle, app)

    def is_refused(self, cycle: RequestResponseCycle) -> bool:
        """Answer a request if it is refused, else have the application begin with it."""
        refusal = None
        if not self.flow.write_paused:  # by a client that reads no answers: a task can wait
            scope = cast(Scope, cycle.scope)
            refusal = self.admission.admit(scope, is_whole=not cycle.more_body)
        if refusal is None:
            super()._start_asgi_task(cycle, self.app)
            return False
        is_last = refusal.is_last or not cycle.keep_alive
        answer = refusal.encoded(
            is_last=is_last, method=cycle.scope["method"], server_headers=cycle.default_headers
        )
        self.joined.write_at_once(answer)
        cycle.response_started = cycle.response_complete = True
        if is_last:
            self.transport.close()
        self.on_response_complete()
        cycle.on_response = _nothing  # as uvicorn has it, lest the two keep one another
        return True

    def send_400_response(self, msg: str) -> None:
        self.send_last(Refusal(status=400, code="no_http", message=msg))

    def send_last(self, refusal: Refusal) -> None:
        self.transport.write(refusal.encoded(is_last=True))
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["state"][BEGAN_AT] = time.monotonic()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():  # they come again without the offer
            return
        super().on_headers_complete()
        self.is_in_body, self.head_bytes = True, 0

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self.is_in_body, self.head_bytes = False, 0

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.forget()

    def watch(self) -> None:
        """Let the deadline run exactly while a request is incomplete and none is answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.forget()
        elif self.deadline is None:
            self.deadline = self.loop.call_later(self.headers_timeout_s, self.give_up)

    def forget(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def give_up(self) -> None:
        if not self.transport.is_closing():
            if self.is_in_body:
                self.transport.close()
            else:
                message = "The headers took too long."
                self.send_last(Refusal(status=408, code="too_slow", message=message))


def guarded_connection(
    *, headers_timeout_s: float, admission: Admission
) -> type[HttpToolsProtocol]:
    """Return the class of a server's connections, since uvicorn makes them of a class by itself.

    Args:
        headers_timeout_s: seconds until the connection is answered with 408 and closed.
        admission: asked of each request.
    """
    own = {"headers_timeout_s": headers_timeout_s, "admission": admission}
    return type("GuardedConnection", (_Connection,), own)
