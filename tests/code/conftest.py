"""What the tests of the code domain share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from seqmlm.domain import Record
from seqmlm_domains.code.domain import CodeDomain
from tests.code.sources import SOURCE, WriteTree


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
    """A domain with a vocabulary learned from :data:`~tests.code.sources.SOURCE`."""
    made = CodeDomain(vocabulary_size=700)
    made.fit_tokenizer([Record("a.py", SOURCE, "test", 1)])
    return made
