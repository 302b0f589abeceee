"""Parses in a child process, so that no file can take the caller down with it.

Grammars are C code that meets files nobody vouches for. A crash, a hang or a memory limit ends the
child, costs the one file, and the next file gets a new child.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Self

import numpy as np

from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.code.declared_types import DeclaredTypes
from seqmlm_domains.code.owners import Owners
from seqmlm_domains.code.parser_child import (
    END_OF_NAMES,
    IS_OF,
    OUT_OF_MEMORY,
    READY,
    REQUEST,
    RESPONSE,
)
from seqmlm_domains.code.syntax import ParsedText

_CHILD = "seqmlm_domains.code.parser_child"
_IMPORT_ROOT = str(Path(__file__).parents[2])
_START_TIMEOUT_S = 60.0
_BYTES_PER_IDENTIFIER = 7 * 4  # see parser_child
_SMALLEST_MEMORY_MIB = 256  # of address space; Python, numpy and a grammar take some 150


class ParsingFailed(Exception):
    """One text could not be parsed; says why. The next one can be."""


class ParserProcess:
    """A child process that parses, started when needed and again after it died.

    As a context manager it ends the child in any case. One request at a time.

    Args:
        timeout_s: seconds that one text may take.
        memory_mib: address space of the child, MiB; not limited on Windows.

    Raises:
        ConfigError: a limit is too small.
    """

    def __init__(self, *, timeout_s: float = 20.0, memory_mib: int = 2048) -> None:
        if not timeout_s > 0:
            raise ConfigError(f"parse_timeout_s = {timeout_s}: it is a number of seconds above 0.")
        if memory_mib < _SMALLEST_MEMORY_MIB:
            raise ConfigError(
                f"parse_memory_mib = {memory_mib}: the parser itself needs "
                f"{_SMALLEST_MEMORY_MIB} MiB."
            )
        self._timeout_s = timeout_s
        self._memory_bytes = memory_mib * 2**20
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """Of the child, while there is one."""
        return None if self._child is None else self._child.pid

    def parse(self, text: str, language: str) -> ParsedText:
        """Return what :func:`~seqmlm_domains.code.syntax.parse_text` does.

        Raises:
            ParsingFailed: the child crashed, hung or ran out of memory over this text.
            DataError: no child can be started.
        """
        child = self._child or self._start()
        name, source = language.encode(), text.encode()
        requests, responses = _pipes(child)
        try:
            with _killed_after(child, self._timeout_s) as is_late:
                requests.write(REQUEST.pack(len(name), len(source)) + name + source)
                requests.flush()
                count, name_bytes = RESPONSE.unpack(_read_exactly(responses, RESPONSE.size))
                content = _read_exactly(responses, _BYTES_PER_IDENTIFIER * count)
                names = _read_exactly(responses, name_bytes).decode()
        except (BrokenPipeError, EOFError) as error:
            status = child.wait()
            self.close()
            late = f"parsing took more than {self._timeout_s:g} s" if is_late.is_set() else ""
            raise ParsingFailed(late or _meaning(status)) from error
        columns = np.frombuffer(content, np.int32)
        *named, of_members, passed_on, _ = (
            own.split("\n") if own else [] for own in names.split(END_OF_NAMES)
        )
        *numbers, is_exported = columns[3 * count :].reshape(4, count)
        types, members, heirs = (
            DeclaredTypes(of_each, tuple(own)) for of_each, own in zip(numbers, named, strict=True)
        )
        owners = Owners(
            members,
            heirs,
            dict(map(_pair, of_members)),
            is_exported.astype(np.bool_),
            list(map(_pair, passed_on)),
        )
        return ParsedText(columns[: 3 * count].reshape(-1, 3), types, owners)

    def close(self) -> None:
        """End the child, if there is one."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in _pipes(child):
            with suppress(BrokenPipeError):  # what a dead child left unread, nobody needs
                pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, [_IMPORT_ROOT, os.environ.get("PYTHONPATH", "")]))
        child = subprocess.Popen(
            [sys.executable, "-m", _CHILD, str(self._memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # numpy's linear algebra is not used, and its threads would take address space.
            env=os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        )
        self._child = child
        with _killed_after(child, _START_TIMEOUT_S):
            greeting = _pipes(child)[1].read(len(READY))
        if greeting != READY:
            status = child.wait()
            self.close()
            raise DataError(f"The process that parses code ended as it began ({_meaning(status)}).")
        return child


def _pipes(child: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert child.stdin is not None, "opened as pipes"
    assert child.stdout is not None, "opened as pipes"
    return child.stdin, child.stdout


def _read_exactly(pipe: IO[bytes], count: int) -> bytes:
    content = pipe.read(count)
    if len(content) < count:
        raise EOFError("the child ended in the middle of an answer")
    return content


@contextmanager
def _killed_after(child: subprocess.Popen[bytes], timeout_s: float) -> Iterator[threading.Event]:
    """Kill the child if the block takes longer; the event says whether that was so."""
    is_late = threading.Event()

    def kill() -> None:
        is_late.set()
        child.kill()

    timer = threading.Timer(timeout_s, kill)
    timer.daemon = True
    timer.start()
    try:
        yield is_late
    finally:
        timer.cancel()


def _pair(line: str) -> tuple[str, str]:
    first, _, second = line.partition(IS_OF)
    return first, second


def _meaning(status: int) -> str:
    """What an exit status says of the end of a child."""
    if status == OUT_OF_MEMORY:
        return "the parser ran out of memory"
    if status < 0:
        return f"the parser was ended by {signal.Signals(-status).name}"
    return f"the parser ended with status {status}"
