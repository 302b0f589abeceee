"""Language servers as processes of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 120.0
PATIENT = ("--set", "deadline_ms=60000", "--set", "log_level=debug")


def command(run: Path, *options: str) -> list[str]:
    """Return the command line of a server on a run."""
    return [sys.executable, "-m", "seqmlm", "code", "serve", str(run), "--lsp", *options]


@dataclass(frozen=True)
class TcpServer:
    """A running server.

    Args:
        port: on the loopback address.
        log: all that it has written to standard error.
    """

    port: int
    log: Path


@contextmanager
def tcp_server(run: Path, *, log: Path) -> Iterator[TcpServer]:
    """Run a server, with its model loaded, until the block ends; it must then end in order."""
    process = subprocess.Popen(
        command(run, "--tcp", "127.0.0.1:0", *PATIENT),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    with process, log.open("wb") as log_file:
        port, is_loaded = None, False
        for line in process.stderr:
            log_file.write(line)
            if found := re.search(rb"listening on 127\.0\.0\.1:(\d+)", line):
                port = int(found[1])
            is_loaded |= b"model loaded" in line
            if port is not None and is_loaded:
                break
        assert port is not None, "the server ended before it listened"
        assert is_loaded, "the server ended before its model was loaded"
        # A log that no one reads would stop the server once the pipe is full.
        reading = threading.Thread(target=shutil.copyfileobj, args=(process.stderr, log_file))
        reading.start()
        try:
            yield TcpServer(port, log)
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
            reading.join()
    assert process.returncode == 0
