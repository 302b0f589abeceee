"""Frames of a byte stream, and what comes between them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from seqmlm_domains.code.serving.frames import (
    MAX_FRAME_BYTES,
    MAX_SKIPPED_BYTES,
    FrameReader,
    StreamLost,
    UnreadableFrame,
)

pytestmark = pytest.mark.asyncio


def reader_of(*chunks: bytes) -> FrameReader:
    waiting = iter(chunks)

    async def read() -> bytes:
        return next(waiting, b"")

    return FrameReader(read)


def frame(body: bytes, header: str = "Content-Length: {}\r\n\r\n") -> bytes:
    return header.format(len(body)).encode() + body


async def bodies_and_faults(reader: FrameReader) -> tuple[list[bytes], int]:
    bodies: list[bytes] = []
    faults = 0
    while True:
        try:
            body = await reader.next()
        except StreamLost:
            return bodies, faults + 1
        except UnreadableFrame:
            faults += 1
        else:
            if body is None:
                return bodies, faults
            bodies.append(body)


async def test_frames_arrive_in_any_pieces() -> None:
    stream = frame(b"{}") + frame(b"") + frame("é".encode())
    reader = reader_of(*[stream[at : at + 1] for at in range(len(stream))])
    assert await bodies_and_faults(reader) == ([b"{}", b"", "é".encode()], 0)


@pytest.mark.parametrize(
    "header",
    [
        "content-length:{}\r\n\r\n",
        "Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
        "Content-Length: {}\r\nContent-Type: x\r\n\r\n",
        "{{}}garbageContent-Length: {}\r\n\r\n",
    ],
    ids=["lower case", "type first", "type last", "garbage before"],
)
async def test_headers_are_read_as_editors_write_them(header: str) -> None:
    assert await bodies_and_faults(reader_of(frame(b"{}", header))) == ([b"{}"], 0)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n\r\n",
        b"hello\r\n\r\n",
        b"Content-Length: -5\r\n\r\n",
        b"Content-Length: five\r\n\r\n",
        b"Content-Length: 0x10\r\n\r\n\xff\xfe\x00",
        b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    ],
    ids=ascii,
)
async def test_a_frame_after_garbage_is_read(garbage: bytes) -> None:
    assert await bodies_and_faults(reader_of(garbage + frame(b"{}"))) == ([b"{}"], 1)


async def test_a_body_that_is_too_long_is_skipped_and_not_kept() -> None:
    length, piece = MAX_FRAME_BYTES + 1, b"x" * 2**16

    def chunks() -> Iterator[bytes]:
        yield f"Content-Length: {length}\r\n\r\n".encode()
        for _ in range(length // len(piece)):
            yield piece
        yield b"x" * (length % len(piece)) + frame(b"{}")

    assert await bodies_and_faults(reader_of(*chunks())) == ([b"{}"], 1)


@pytest.mark.parametrize(
    "header",
    [
        f"Content-Length: {MAX_SKIPPED_BYTES + 1}\r\n\r\n",
        "Content-Length: 10000000000\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n",
    ],
    ids=["too long", "10 GB", "HTTP"],
)
async def test_a_stream_that_is_none_of_ours_ends_at_once(header: str) -> None:
    with pytest.raises(StreamLost):
        await reader_of(header.encode() + b"{}").next()


async def test_a_header_that_never_ends_takes_no_memory() -> None:
    reader = reader_of(*[b"a" * 2**16] * 64, b"\r\n\r\n" + frame(b"{}"))
    assert await bodies_and_faults(reader) == ([b"{}"], 1)
    assert len(reader._buffer) == 0


async def test_the_frame_after_ten_thousand_random_ones_is_read() -> None:
    generator = random.Random(3)
    for _ in range(10_000):
        stream = bytearray(frame(generator.randbytes(generator.randrange(30))))
        for _ in range(generator.randrange(4)):
            stream[generator.randrange(len(stream))] = generator.randrange(256)
        padding = b" " * 1_000  # a length that has grown swallows what follows
        reader = reader_of(bytes(stream), padding, b"\r\n\r\n", frame(b"last"))
        assert (await bodies_and_faults(reader))[0][-1] == b"last"
