"""HTTP connections that do not wait for ever for a client to finish its headers."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BEGAN_AT: Final = "seqmlm.began_at"
"""Key in the state of a request: when its first byte was read, seconds of the monotonic clock."""

_MOST_HEAD_BYTES: Final = 32 * 1_024
_TOO_SLOW: Final = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Content-Length: 71\r\n\r\n"
    b'{"error":{"code":"too_slow","message":"The headers took too long."}}   '
)


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

    def close(self) -> None:
        """Send what is written and close."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._pieces:
            self._transport.write(b"".join(self._pieces))
            self._pieces.clear()


def timed_connection(*, headers_timeout_s: float) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol with a deadline and a cap for the headers of each request.

    uvicorn itself holds a connection open for as long as a client sends a byte now and then. The
    deadline runs from the first byte (of a new connection: from its opening) to the last header;
    what arrives of a body that is no longer wanted must end within the same time. Headers that
    have not ended after 32 KiB are no HTTP of ours.

    Args:
        headers_timeout_s: seconds until the connection is answered with 408 and closed.
    """

    class TimedConnection(HttpToolsProtocol):
        deadline: asyncio.TimerHandle | None = None
        is_in_body = False
        head_bytes = 0  # received, of a head that has not ended; the parser keeps them all

        def connection_made(self, transport: Any) -> None:
            super().connection_made(cast(asyncio.Transport, JoinedWrites(transport, self.loop)))
            self.watch()

        def data_received(self, data: bytes) -> None:
            self.head_bytes += len(data)
            super().data_received(data)
            if self.head_bytes > _MOST_HEAD_BYTES and not self.is_in_body:
                self.send_400_response("The headers are too long.")
            self.watch()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            cast(dict[str, Any], self.scope)["state"][BEGAN_AT] = time.monotonic()

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self.is_in_body, self.head_bytes = True, 0

        def on_message_complete(self) -> None:
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
                self.deadline = self.loop.call_later(headers_timeout_s, self.give_up)

        def forget(self) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
                self.deadline = None

        def give_up(self) -> None:
            if not self.transport.is_closing():
                if not self.is_in_body:
                    self.transport.write(_TOO_SLOW)
                self.transport.close()

    return TimedConnection
