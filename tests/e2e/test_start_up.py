"""Help and imports load nothing heavy; what is not needed is not paid for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Typer itself imports pydantic for the options of a command.
HEAVY = ("torch", "transformers", "Bio", "networkx", "numpy", "matplotlib", "triton")

PROBE = """
import json, sys
sys.argv = {arguments!r}
try:
    {statement}
except SystemExit as end:
    assert not end.code, end.code
print()
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize(
    ("statement", "arguments", "unwanted"),
    [
        ("import seqmlm", [], (*HEAVY, "pydantic", "typer")),
        ("from seqmlm.cli import main; main()", ["seqmlm", "--help"], (*HEAVY, "pydantic")),
        ("from seqmlm.cli import main; main()", ["seqmlm", "train", "--help"], HEAVY),
        ("from seqmlm.cli import main; main()", ["seqmlm", "--version"], (*HEAVY, "pydantic")),
    ],
    ids=["import", "help", "help of train", "version"],
)
def test_nothing_heavy_is_loaded(
    statement: str, arguments: list[str], unwanted: tuple[str, ...], environment: dict[str, str]
) -> None:
    probe = PROBE.format(statement=statement, arguments=arguments)
    process = subprocess.run(
        [sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(process.stdout.splitlines()[-1]))
    assert "seqmlm" in loaded
    assert loaded.isdisjoint(unwanted)
