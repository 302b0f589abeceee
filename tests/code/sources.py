"""Source text and types that the tests of the code domain share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

WriteTree = Callable[[Mapping[str, str | bytes]], Path]

SOURCE = """\
import os

def total(values, start=0):
    result = start
    for value in values:
        result += value.amount
    return result

print(total(os.listdir("."), start=1))
"""
