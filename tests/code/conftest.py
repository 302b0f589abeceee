"""What the tests of the code domain share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from seqmlm.config import configure
from seqmlm.domain import Record
from seqmlm.training.loop import train
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


@pytest.fixture(scope="session")
def code_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of a few training steps on a small written repository."""
    folder = tmp_path_factory.mktemp("code_run")
    repository = folder / "repository"
    repository.mkdir()
    for i in range(12):
        text = SOURCE.replace("total", f"total{i % 3}").replace("start", f"first{i % 4}") * 2
        (repository / f"module{i}.py").write_text(text)
    tiny = Path(__file__).parents[2] / "configs" / "tiny" / "code.toml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMLM_CACHE", str(folder / "cache"))
        settings = configure(domain="code", sources=[str(repository)], files=[tiny])
        train(settings, folder / "run")
    return folder / "run"
