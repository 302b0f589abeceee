"""What README.md and docs/ show is run as a reader would run it."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from seqmlm.config import configure
from seqmlm.registry import CORRUPTORS, DOMAINS, OBJECTIVES, SELECTORS
from seqmlm.training.rehearsal import rehearse

CHECKOUT = Path(__file__).parents[1]
README = (CHECKOUT / "README.md").read_text()
OBJECTIVES_PAGE = (CHECKOUT / "docs" / "objectives.md").read_text()
MARK = "# executed by tests/test_readme.py\n"


def marked_blocks(language: str) -> list[str]:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
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

    mentioned = set(re.findall(r"`seqmlm ([a-z-]+)", README))
    group = typer.main.get_group(app)
    assert mentioned == set(group.list_commands(typer.Context(group)))


def shown_objectives() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", OBJECTIVES_PAGE, re.DOTALL)


def sources(domain: str, folder: Path) -> list[str]:
    """A little data of a domain; of the graph, what comes with the package."""
    if domain == "protein":
        samples = CHECKOUT / "domains/seqmlm_domains/protein/samples"
        return [str(samples / "swissprot_archaea_600.fasta.gz")]
    if domain == "text":
        words = ["tree", "bird", "river", "stone", "cloud"]
        lines = [f"The {a} saw a {b} by the {c}.\n" for a in words for b in words for c in words]
        (folder / "text.txt").write_text("\n".join(lines))
        return [str(folder / "text.txt")]
    return [str(CHECKOUT / "seqmlm" / "masking")] if domain == "code" else []


def rehearsed(domain: str, text: str, overrides: list[str], folder: Path) -> str:
    """What a dry run of a small model says of objectives in a file."""
    path = folder / "objectives.toml"
    path.write_text(text)
    small = ["model.layers=1", "model.hidden_size=16", "model.heads=2", "training.device=cpu",
             "training.tokens_per_batch=1024"]  # fmt: skip
    config = configure(
        domain=domain,
        sources=sources(domain, folder),
        files=[path],
        overrides=small + overrides,
    )
    return "\n".join(rehearse(config))


@pytest.mark.parametrize(
    ("domain", "overrides"),
    [
        ("protein", []),
        ("text", ["domain.vocabulary_size=300"]),
        ("code", []),
        ("kg", ["objectives.1.policy.corruptor.table=type"]),
    ],
    ids=["protein", "text", "code", "kg with table = type"],
)
def test_the_objectives_shown_run_in_every_domain(
    domain: str, overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    first, second, _ = shown_objectives()
    printed = rehearsed(domain, first, overrides, tmp_path)
    assert re.search(r"untrained loss: pmlm \d.* nats, mlm \d.* nats", printed)
    printed = rehearsed(domain, second, [o for o in overrides if "table" not in o], tmp_path)
    assert re.search(r"untrained loss: static \d.* nats, falling \d.* nats", printed)


def rows_of_table(heading: str) -> list[list[str]]:
    """Cells of the first table of the page on objectives below a line."""
    below = OBJECTIVES_PAGE.split(heading, 1)[1]
    table = below[: below.index("\n\n", below.index("|---"))].splitlines()
    return [row.strip("|").split("|") for row in table if row.startswith("| `")]


def test_the_objectives_told_of_are_there_with_their_settings() -> None:
    told: set[str] = set()
    for names, _, settings in rows_of_table("# Objectives and masking"):
        for name in re.findall(r"`(\w+)`", names):
            taken = inspect.signature(OBJECTIVES.load(name)).parameters
            assert set(re.findall(r"`(\w+)`", settings)) <= set(taken), name
            told.add(name)
    assert told == set(OBJECTIVES.builtin)


def test_the_selectors_corruptors_and_types_told_of_are_those_that_there_are() -> None:
    [policy] = re.findall(r"^A policy is a selector \((.*?)\), a corruptor\s\((.*?)\)\s",
                          OBJECTIVES_PAGE, re.MULTILINE | re.DOTALL)  # fmt: skip
    for told, registry in zip(policy, (SELECTORS, CORRUPTORS), strict=True):
        assert set(registry.builtin) <= set(re.findall(r"`(\w+)`", told))
    [types] = [
        row[1] for row in rows_of_table("its entities and relations.\n") if "types" in row[0]
    ]
    graph, code = re.findall(r"in (?:a graph|code) ((?:`\w+`,? ?)+)", types)
    for told_types, domain in ((graph, "kg"), (code, "code")):
        assert re.findall(r"`(\w+)`", told_types) == list(DOMAINS.load(domain).unit_types)


def test_the_checks_run_on_the_example_as_shown() -> None:
    first_line = "# executed by tests/test_readme.py with PYTHONPATH=tests/plugins\n"
    [shown] = re.findall(rf"```python\n{first_line}(.*?)```", OBJECTIVES_PAGE, re.DOTALL)
    finished = subprocess.run(
        [sys.executable, "-c", shown],
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr


def python_path() -> str:
    """Where the example plug-ins are, before all else."""
    return os.pathsep.join([str(CHECKOUT / "tests" / "plugins"), os.environ.get("PYTHONPATH", "")])


def test_the_objective_of_ones_own_runs_as_shown(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(shown_objectives()[2])
    [command] = re.findall(r"^(PYTHONPATH=\S+) seqmlm (train .*--config mine.toml .*)$",
                           OBJECTIVES_PAGE, re.MULTILINE)  # fmt: skip
    arguments = command[1].replace("my.fasta", sources("protein", tmp_path)[0])
    finished = subprocess.run(
        [sys.executable, "-m", "seqmlm", *arguments.split(), "--output", "run"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": python_path(),
            "SEQMLM_CACHE": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "untrained loss: even_mlm" in finished.stdout + finished.stderr


def test_the_systems_told_of_are_configurations_and_links_and_pictures_are_there() -> None:
    systems = README.split("| domain | systems |", 1)[1].split("\n\n", 1)[0]
    for name in re.findall(r"`(\w+)`", systems):
        assert (CHECKOUT / "configs" / f"{name}.toml").is_file(), name
    pages = [CHECKOUT / "README.md", *CHECKOUT.glob("docs/*.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
