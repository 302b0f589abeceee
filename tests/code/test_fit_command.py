"""``seqmlm code fit``: what is told while it works, and of each part at the end."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest
from rich.console import Console

from seqmlm.data.report import ReadReport
from seqmlm_domains.code.commands import fit
from seqmlm_domains.code.commands.fitting_display import FittingDisplay
from seqmlm_domains.code.completion import project_fitting
from seqmlm_domains.code.completion.fitting_progress import FittingProgress
from seqmlm_domains.code.completion.project_fitting import FittedProject


def accuracy(top_1: float, top_5: float, mean_reciprocal_rank: float) -> dict[str, float]:
    return {"top_1": top_1, "top_5": top_5, "mean_reciprocal_rank": mean_reciprocal_rank}


REPORT = {
    "python": {
        "left": {
            "mixture": accuracy(0.405, 0.671, 0.523),
            "without model": accuracy(0.384, 0.640, 0.503),
            "without file": accuracy(0.381, 0.623, 0.494),
        },
        "both": {
            "mixture": accuracy(0.567, 0.770, 0.660),
            "without model": accuracy(0.571, 0.760, 0.659),
            "without file": accuracy(0.557, 0.746, 0.644),
        },
    }
}


@pytest.fixture
def fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FittedProject:
    """What the command is given in place of a fit that takes minutes."""
    project = FittedProject(tmp_path / "completion", REPORT, ReadReport(), ())
    monkeypatch.setattr(project_fitting, "fit_project", lambda *_, **__: project)
    return project


def shown(progress: list[tuple[float, FittingProgress]], *, is_terminal: bool) -> str:
    """What the display writes of work that is told at these seconds."""
    file, now = io.StringIO(), 0.0
    console = Console(file=file, force_terminal=is_terminal, width=120)
    with FittingDisplay(console, clock=lambda: now) as display:
        for at, told in progress:
            now = at
            display.show(told)
    return file.getvalue()


def counting(done: int) -> FittingProgress:
    return FittingProgress("counting names", done, 600, "files")


def test_plain_lines_come_at_the_start_every_ten_seconds_and_at_the_end() -> None:
    told = [(0, 0), (4, 100), (12, 200), (15, 250), (36, 600)]
    lines = shown([(at, counting(done)) for at, done in told], is_terminal=False).splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [  # behind date and time
        "counting names: 0/600 files",
        # A third took 12 seconds.
        "counting names: 200/600 files  0:00:24 left",
        "counting names: 600/600 files",
    ]


def test_the_time_that_is_left_is_that_of_the_phase() -> None:
    asking = [FittingProgress("asking the model", done, 40, "names") for done in (0, 10)]
    written = shown(
        [(0, counting(0)), (50, counting(600)), (50, asking[0]), (60, asking[1])],
        is_terminal=False,
    )
    assert "asking the model: 10/40 names  0:00:30 left" in written


def test_on_a_terminal_each_phase_is_a_bar() -> None:
    written = shown([(0, counting(0)), (12, counting(200))], is_terminal=True)
    assert "counting names" in written
    assert "200/600" in written
    assert "files  0:00:24 left" in written


def test_the_tables_say_what_each_part_gains_or_loses(
    fitted: FittedProject, capsys: pytest.CaptureFixture[str]
) -> None:
    fit.run(Path("run"), ["project"])
    written = capsys.readouterr().out
    rows = {
        tuple(cell.strip() for cell in line.strip("│").split("│"))
        for line in written.splitlines()
        if line.startswith("│")
    }
    assert ("mixture", "40.5", "67.1", "52.3") in rows
    assert ("without file", "38.1 (-2.4)", "62.3 (-4.8)", "49.4 (-2.9)") in rows
    assert ("without model", "57.1 (+0.4)", "76.0 (-1.0)", "65.9 (-0.1)") in rows
    assert "A minus beside 'without' a part is what that part adds" in written


def test_a_model_that_makes_the_mixture_worse_is_warned_of(
    fitted: FittedProject,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.WARNING):
        fit.run(Path("run"), ["project"], as_json=True)
    assert json.loads(capsys.readouterr().out) == REPORT
    (warning,) = caplog.messages
    assert warning == (
        "python, both: on the held-out names the mixture is better without the model: "
        "top-1 56.7 with it, 57.1 without."
    )
