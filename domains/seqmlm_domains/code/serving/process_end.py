"""The end of a server whose model is still at work."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn


def end_at_once(code: int) -> NoReturn:
    """End the process while a thread of it is within torch.

    Neither an import, nor a read of weights, nor a forward pass can be broken off, and Python would
    tear torch down under it: a crash in place of the exit code.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
