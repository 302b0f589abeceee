"""Byte channels to a client: the standard streams of the process, or a socket."""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

_READ_BYTES: Final = 2**16
_MAX_UNREAD_CHUNKS: Final = 4
_MAX_UNSENT_BYTES: Final = 8 * 2**20
_CLOSE_TIMEOUT_S: Final = 1.0
_Told = TypeVar("_Told", bytes, int)


class Channel(Protocol):
    """Both directions of a connection to one client."""

    async def read(self) -> bytes:
        """Wait for some bytes; none at the end."""
        ...

    def write(self, data: bytes) -> None:
        """Send, without waiting."""
        ...

    async def settle(self) -> None:
        """Wait while the client leaves too much of what was written unread."""
        ...

    async def close(self) -> None:
        """Send what is still to be sent, for a second at most, and end the connection."""
        ...


class SocketChannel:
    """A stream pair of asyncio."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """See :class:`Channel`; a connection that breaks has ended."""
        try:
            return await self._reader.read(_READ_BYTES)
        except ConnectionError:
            return b""

    def write(self, data: bytes) -> None:
        """See :class:`Channel`."""
        self._writer.write(data)

    async def settle(self) -> None:
        """See :class:`Channel`."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return  # the next read says so

    async def close(self) -> None:
        """See :class:`Channel`."""
        self._writer.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._writer.wait_closed()
        except (ConnectionError, TimeoutError):
            self._writer.transport.abort()


class StandardStreams:
    """Standard input and output, each with a thread, so that neither blocks the event loop.

    Asyncio's own pipes refuse regular files. The threads are daemons: one that waits for a client
    that says nothing more does not keep the process alive.

    Args:
        input_descriptor: of the stream to read.
        output_descriptor: of the stream to write.
    """

    def __init__(self, *, input_descriptor: int, output_descriptor: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._received: asyncio.Queue[bytes] = asyncio.Queue()
        self._room = threading.Semaphore(_MAX_UNREAD_CHUNKS)
        self._to_send: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._unsent_bytes = 0
        self._has_settled = asyncio.Event()
        self._has_settled.set()
        self._writing = threading.Thread(
            target=self._keep_writing, args=(output_descriptor,), daemon=True
        )
        self._writing.start()
        threading.Thread(target=self._keep_reading, args=(input_descriptor,), daemon=True).start()

    async def read(self) -> bytes:
        """See :class:`Channel`."""
        data = await self._received.get()
        self._room.release()
        return data

    def write(self, data: bytes) -> None:
        """See :class:`Channel`."""
        self._unsent_bytes += len(data)
        if self._unsent_bytes > _MAX_UNSENT_BYTES:
            self._has_settled.clear()
        self._to_send.put(data)

    async def settle(self) -> None:
        """See :class:`Channel`."""
        await self._has_settled.wait()

    async def close(self) -> None:
        """See :class:`Channel`."""
        self._to_send.put(None)
        await asyncio.to_thread(self._writing.join, _CLOSE_TIMEOUT_S)

    def _keep_reading(self, descriptor: int) -> None:
        data = b"-"
        while data:
            self._room.acquire()
            try:
                data = os.read(descriptor, _READ_BYTES)
            except OSError:
                data = b""
            self._tell(self._received.put_nowait, data)

    def _keep_writing(self, descriptor: int) -> None:
        is_broken = False
        while (data := self._to_send.get()) is not None:
            rest = memoryview(data)
            while rest and not is_broken:
                try:
                    rest = rest[os.write(descriptor, rest) :]
                except OSError:
                    is_broken = True  # the client has gone; the end of its input says so
            self._tell(self._count_sent, len(data))

    def _tell(self, function: Callable[[_Told], object], told: _Told) -> None:
        try:
            self._loop.call_soon_threadsafe(function, told)
        except RuntimeError:
            return  # the loop has been closed: the process ends

    def _count_sent(self, size: int) -> None:
        self._unsent_bytes -= size
        if self._unsent_bytes <= _MAX_UNSENT_BYTES:
            self._has_settled.set()


def take_standard_streams() -> tuple[int, int]:
    """Return private descriptors of standard input and output.

    From then on, standard input is empty, and what a library or a child process prints goes to
    standard error: it would break the framing.
    """
    sys.stdout.flush()
    taken = os.dup(sys.stdin.fileno()), os.dup(sys.stdout.fileno())
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, sys.stdin.fileno())
    os.close(empty)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return taken
