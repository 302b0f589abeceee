"""Byte channels: standard streams that block no one, and are the protocol's alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from seqmlm_domains.code.serving.channels import StandardStreams

Pipes = tuple[int, int, int, int]


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    """Ends of the server's input (read, write) and of its output (read, write)."""
    opened = [*os.pipe(), *os.pipe()]
    yield (opened[0], opened[1], opened[2], opened[3])
    for descriptor in opened:
        try:
            os.close(descriptor)
        except OSError:
            continue  # the test has closed it


@pytest.mark.asyncio
async def test_bytes_pass_and_the_end_is_told(pipes: Pipes) -> None:
    input_read, input_write, output_read, output_write = pipes
    channel = StandardStreams(input_descriptor=input_read, output_descriptor=output_write)
    os.write(input_write, b"question")
    assert await channel.read() == b"question"
    channel.write(b"answer")
    assert await asyncio.to_thread(os.read, output_read, 100) == b"answer"
    os.close(input_write)
    assert await channel.read() == b""
    await channel.close()


@pytest.mark.asyncio
async def test_a_client_that_does_not_read_is_waited_for_and_blocks_no_one(pipes: Pipes) -> None:
    input_read, input_write, output_read, output_write = pipes
    channel = StandardStreams(input_descriptor=input_read, output_descriptor=output_write)
    sent = 9 * 2**20
    channel.write(b"x" * sent)
    settling = asyncio.ensure_future(channel.settle())
    os.write(input_write, b"still heard")
    assert await channel.read() == b"still heard"
    assert not settling.done()
    received = 0
    while received < sent:
        received += len(await asyncio.to_thread(os.read, output_read, 2**20))
    await settling
    os.close(input_write)
    await channel.close()


@pytest.mark.asyncio
async def test_a_client_that_has_gone_is_no_error(pipes: Pipes) -> None:
    input_read, input_write, output_read, output_write = pipes
    os.close(output_read)
    channel = StandardStreams(input_descriptor=input_read, output_descriptor=output_write)
    channel.write(b"lost")
    channel.write(b"lost too")
    await channel.settle()
    os.close(input_write)
    assert await channel.read() == b""
    await channel.close()


def test_what_a_library_prints_does_not_reach_the_client() -> None:
    program = """
import os, subprocess, sys
from seqmlm_domains.code.serving.channels import take_standard_streams
taken = take_standard_streams()
print("stray print", flush=True)
subprocess.run([sys.executable, "-c", "import sys; print('child reads', repr(sys.stdin.read()))"])
os.write(taken[1], os.read(taken[0], 100))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], input=b"frame", capture_output=True, check=True, timeout=60
    )
    assert done.stdout == b"frame"
    assert done.stderr.splitlines() == [b"stray print", b"child reads ''"]
