"""HTTP connections that do not wait for ever for a client to finish its headers."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_TOO_SLOW: Final = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Content-Length: 71\r\n\r\n"
    b'{"error":{"code":"too_slow","message":"The headers took too long."}}   '
)


def timed_connection(*, headers_timeout_s: float) -> type[H11Protocol]:
    """Return uvicorn's protocol with a deadline for the headers of each request.

    uvicorn itself holds a connection open for as long as a client sends a byte now and then. The
    deadline runs from the first byte (of a new connection: from its opening) to the last header;
    what arrives of a body that is no longer wanted must end within the same time.

    Args:
        headers_timeout_s: seconds until the connection is answered with 408 and closed.
    """

    class TimedConnection(H11Protocol):
        deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.watch()

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
                if self.conn.our_state is h11.IDLE:
                    self.transport.write(_TOO_SLOW)
                self.transport.close()

    return TimedConnection
