"""torch.compile as the peers get it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu.session import Session


def compiled(session: Session, function: Callable[..., Any], *, dynamic: bool = False) -> Any:
    """The function compiled by Inductor; in a rehearsal only traced, which takes seconds less."""
    backend = "aot_eager" if session.is_rehearsal else "inductor"
    return torch.compile(function, backend=backend, dynamic=dynamic)
