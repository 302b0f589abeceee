"""Lengths of packed sequences as data has them, the same on every run."""

from __future__ import annotations

import random
from collections.abc import Callable

# A document among names of source code.
ONE_LONG = (2048, *[32] * 255)


def text(generator: random.Random) -> int:
    """Like web pages cut at 1,024 tokens: 45 % of it on average."""
    return max(1, min(1024, round(generator.lognormvariate(5.75, 1.2))))


def protein(generator: random.Random) -> int:
    """Like UniProt: median 300 residues, cut at 1,024."""
    return max(8, min(1024, round(generator.lognormvariate(5.7, 0.65))))


def identifier(generator: random.Random) -> int:
    """A name of source code with its context: 8 to 64 tokens."""
    return generator.randint(8, 64)


def triple(generator: random.Random) -> int:
    """Head, relation and tail: 3 to 16 tokens."""
    return generator.randint(3, 16)


def fill(draw: Callable[[random.Random], int], tokens: int) -> list[int]:
    """Lengths that add up to ``tokens``; the last one is cut."""
    generator = random.Random(0)
    lengths: list[int] = []
    while (left := tokens - sum(lengths)) > 0:
        lengths.append(min(draw(generator), left))
    return lengths
