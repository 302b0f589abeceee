"""How far a fit to a project is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FittingProgress:
    """What is being done, and how much of it is.

    Args:
        phase: what is being done; another one begins with ``done`` 0.
        done: of ``total``.
        total: number of ``unit`` in this phase.
        unit: what is counted, such as files.
    """

    phase: str
    done: int
    total: int
    unit: str


OnProgress = Callable[[FittingProgress], None]
"""Called at the start of each phase and after each part of it."""


def tell_nobody(progress: FittingProgress) -> None:
    """Leave it untold."""
