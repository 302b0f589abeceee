"""What the tests of the code domain share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from seqmlm.domain import Record
from seqmlm_domains.code.domain import CodeDomain

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


@pytest.fixture
def write_tree(tmp_path: Path) -> WriteTree:
    """Write files below a folder of their own and return it."""

    def write(files: Mapping[str, str | bytes]) -> Path:
        root = tmp_path / "repository"
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return root

    return write


@pytest.fixture
def domain() -> CodeDomain:
    """A domain with a vocabulary learned from :data:`SOURCE`."""
    made = CodeDomain(vocabulary_size=700)
    made.fit_tokenizer([Record("a.py", SOURCE, "test", 1)])
    return made
