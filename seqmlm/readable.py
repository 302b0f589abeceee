"""Numbers as people read them."""

from __future__ import annotations

import math

LARGEST_WRITTEN_OUT = 1e6
"""Numbers from here on are written with a power of ten."""


def readable(number: float, decimals: int = 4) -> str:
    """Return a number with fixed decimals; one that is large with six digits; NaN as a dash."""
    if math.isnan(number):
        return "-"
    return f"{number:.{decimals}f}" if abs(number) < LARGEST_WRITTEN_OUT else f"{number:.6g}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural with ``s`` unless it is one."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
