from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import torch


@pytest.fixture
def fork() -> Iterator[Callable[[Callable[[], None]], int]]:
    """Run a function in a forked process and return its id; a fork need not import torch again."""
    children: list[int] = []

    def start(task: Callable[[], None]) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later, about threads
            child = os.fork()
        if child == 0:
            try:
                torch.set_num_threads(1)  # the threads of the pool are not forked
                task()
                os._exit(0)
            finally:
                os._exit(70)  # never back into pytest
        children.append(child)
        return child

    yield start
    for child in children:
        with suppress(ChildProcessError):  # waited for already
            if os.waitpid(child, os.WNOHANG) == (0, 0):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
