"""Messages of a byte stream, as LSP frames them: a header with their length, then the body."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

MAX_FRAME_BYTES: Final = 16 * 2**20
"""A longer body is thrown away as it comes, and what comes after it is read."""

MAX_SKIPPED_BYTES: Final = 256 * 2**20
"""No editor sends more: a length beyond is no length, and where the next frame begins unknown."""

_MAX_HEADER_BYTES: Final = 8 * 2**10
_HEADER_END: Final = b"\r\n\r\n"
# At the end of its line: garbage may come before it, as after a frame whose length was wrong.
_LENGTH: Final = re.compile(rb"content-length[ \t]*:[ \t]*(\d{1,20})[ \t]*$", re.I)
_FIELD: Final = re.compile(rb"[a-z-]+[ \t]*:.*", re.I)
# A page in the user's browser can post to any port of loopback; an HTTP body is then a frame.
_HTTP_REQUEST: Final = re.compile(rb"^[A-Z]+ \S+ HTTP/\d", re.M)


class UnreadableFrame(Exception):
    """A frame that holds no message; the message says why. The next one can be read."""


class StreamLost(UnreadableFrame):
    """A frame after which nothing can be read any more."""


class FrameReader:
    """Takes a stream apart, and finds its place again after what is no frame.

    Args:
        read: waits for more bytes; none at the end of the stream.
    """

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read
        self._buffer = bytearray()
        self._to_skip = 0

    async def next(self) -> bytes | None:
        """Return the body of the next frame; None at the end of the stream.

        Memory: at most a frame and what one read returns.

        Raises:
            UnreadableFrame: a header without a usable length, or a body that is too long.
            StreamLost: the length is out of all bounds, or the client speaks HTTP.
        """
        await self._skip()
        header = await self._take_header()
        if header is None:
            return None
        if _HTTP_REQUEST.search(header):
            raise StreamLost("This is a language server: it does not speak HTTP.")
        length = _length(header)
        if length is None:
            raise UnreadableFrame("A header without Content-Length.")
        if length > MAX_SKIPPED_BYTES:
            raise StreamLost(f"Content-Length: {length}: at most {MAX_FRAME_BYTES} bytes are read.")
        if length > MAX_FRAME_BYTES:
            self._to_skip = length
            raise UnreadableFrame(
                f"Content-Length: {length}: at most {MAX_FRAME_BYTES} bytes are read."
            )
        while len(self._buffer) < length:
            if not await self._read_more():
                return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    async def _take_header(self) -> bytes | None:
        """All up to the next blank line; of a very long one, the end."""
        searched = 0
        while (end := self._buffer.find(_HEADER_END, searched)) < 0:
            del self._buffer[:-_MAX_HEADER_BYTES]
            searched = max(len(self._buffer) - len(_HEADER_END) + 1, 0)
            if not await self._read_more():
                return None
        header = bytes(self._buffer[max(end - _MAX_HEADER_BYTES, 0) : end])
        del self._buffer[: end + len(_HEADER_END)]
        return header

    async def _skip(self) -> None:
        while self._to_skip:
            if not self._buffer and not await self._read_more():
                return
            skipped = min(self._to_skip, len(self._buffer))
            del self._buffer[:skipped]
            self._to_skip -= skipped

    async def _read_more(self) -> bool:
        more = await self._read()
        self._buffer += more
        return bool(more)


def _length(header: bytes) -> int | None:
    """What the fields right before the blank line say; what is before them is garbage."""
    for line in reversed(header.split(b"\r\n")):
        if found := _LENGTH.search(line):
            return int(found[1])
        if not _FIELD.fullmatch(line):
            return None
    return None
