"""The README's commands and code do what it says: they are run as a reader would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import typer

CHECKOUT = Path(__file__).parents[1]
MARK = "# executed by tests/test_readme.py\n"


def marked_blocks(language: str) -> list[str]:
    text = (CHECKOUT / "README.md").read_text()
    blocks = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
    return [block for block in blocks if block.startswith(MARK)]


def test_worked_examples_run_and_the_first_says_that_it_is_not_better_than_counting(
    tmp_path: Path,
) -> None:
    (tmp_path / "domains").symlink_to(CHECKOUT / "domains")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SEQMLM_CACHE": str(tmp_path / "cache"),
    }

    def run(*command: str) -> str:
        finished = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    [shell], [python, graph] = marked_blocks("sh"), marked_blocks("python")
    printed = run("bash", "-euo", "pipefail", "-c", shell)
    assert "NOT better than counting" in printed
    assert printed.count("mask 1:") == 1
    assert "one\t22\t-" in printed, "score must print name, tokens and a negative likelihood"
    assert (tmp_path / "runs" / "archaea" / "plots" / "loss.png").stat().st_size > 10_000
    assert (tmp_path / "runs" / "tem1-contacts" / "contacts.csv").stat().st_size > 1_000

    printed = run(sys.executable, "-c", python)
    assert "torch.Size([2, 128])" in printed
    assert "['BLAT_ECOLX" in printed

    printed = run(sys.executable, "-c", graph)
    assert "TripleScore(" in printed
    assert 0 < float(printed.splitlines()[-1]) < 1


def test_every_command_of_the_table_exists() -> None:
    from seqmlm.cli import app

    text = (CHECKOUT / "README.md").read_text()
    mentioned = set(re.findall(r"`seqmlm ([a-z-]+)", text))
    group = typer.main.get_group(app)
    assert mentioned == set(group.list_commands(typer.Context(group)))


def test_the_objectives_shown_can_be_built(tmp_path: Path) -> None:
    from seqmlm.config import configure
    from seqmlm.domain import build_domain
    from seqmlm.training.building import build_objectives

    [shown] = re.findall(r"```toml\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)
    path = tmp_path / "objectives.toml"
    path.write_text(shown)
    config = configure(domain="protein", files=[path])
    built = build_objectives(config, build_domain(config.domain.model_dump()))
    assert [objective.name for objective in built] == ["pmlm", "mlm"]
