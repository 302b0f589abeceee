"""Files that the parser dies of, where names are counted."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from seqmlm_domains.code.completion import project
from seqmlm_domains.code.completion.project import Project, count_names
from seqmlm_domains.code.completion.project_fitting import fit_project
from seqmlm_domains.code.parser_process import ParserProcess, ParsingFailed
from seqmlm_domains.code.source_tokens import SourceTokens
from seqmlm_domains.code.syntax import ParsedText
from tests.code.sources import SOURCE

DEADLY = "deadly_name"


class MortalParser(ParserProcess):
    """A parser that does not survive a text with a certain name."""

    def parse(self, text: str, language: str) -> ParsedText:
        if DEADLY in text:
            raise ParsingFailed("the parser was ended by SIGSEGV")
        return super().parse(text, language)


@pytest.fixture(autouse=True)
def mortal_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "ParserProcess", MortalParser)


def tokens(text: str) -> SourceTokens:
    return SourceTokens.of(text, "python")


def test_a_file_that_cannot_be_parsed_is_told_of_and_not_counted() -> None:
    good, bad = tokens("good_name = 1\n"), tokens(f"{DEADLY} = good_name\n")
    failed: list[tuple[SourceTokens, str]] = []
    done: list[int] = []
    counts = count_names(
        [bad, good],
        on_parsed=done.append,
        on_failed=lambda file, reason: failed.append((file, reason)),
    )
    assert counts["python"].names == ("good_name",)
    assert failed == [(bad, "the parser was ended by SIGSEGV")]
    assert done == [1, 2]


def test_without_anyone_to_be_told_there_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "seqmlm"):
        assert count_names([tokens(DEADLY)]) == {}
    assert "A file is not counted: the parser was ended by SIGSEGV." in caplog.text


def test_fitting_reports_each_such_file_once(code_run: Path, tmp_path: Path) -> None:
    run, repository = tmp_path / "run", tmp_path / "repository"
    shutil.copytree(code_run, run)
    repository.mkdir()
    for number in range(12):
        (repository / f"module{number:02}.py").write_text(SOURCE.replace("total", f"sum{number}"))
    # One of the files that the weights are fitted to, and one of the others.
    for name in ("module00.py", "module05.py"):
        path = repository / name
        path.write_text(f"{path.read_text()}{DEADLY} = 1\n")
    read = fit_project(run, [repository], held_out=None, positions=100, seed=0).files
    assert dict(read.dropped) == {"the parser was ended by SIGSEGV": 2}
    assert sorted(read.examples["the parser was ended by SIGSEGV"]) == [
        "module00.py",
        "module05.py",
    ]
    assert (read.read, read.used) == (12, 10)
    assert DEADLY not in Project.load(run).table("python").names
