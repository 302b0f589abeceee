"""The commands infill and generate on a saved model, against the Python interface."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqmlm.cli import main
from seqmlm.domain import build_domain
from seqmlm.model.model import Model
from seqmlm.objectives.rows import TrainedObjective

Run = Callable[..., tuple[int, str, str]]

CLM = TrainedObjective("clm", "left_to_right", "causal")
MASKED = ["MKT<mask><mask>IAK", "<mask>Q"]


@pytest.fixture(scope="module")
def folder(build_model: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = build_model(build_domain({"name": "protein"}))
    model.trained_objectives = (CLM, TrainedObjective("mlm", None, None))
    path = tmp_path_factory.mktemp("models") / "protein"
    model.save(path)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["seqmlm", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run_command


def as_json(item: Any) -> dict[str, Any]:
    content = dataclasses.asdict(item) | {"log_likelihood": item.log_likelihood}
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


@pytest.mark.parametrize("strategy", ["independent", "sequential", "left_to_right", "gibbs"])
def test_infill_prints_what_python_returns(run: Run, folder: Path, strategy: str) -> None:
    options = ("--strategy", strategy, "--samples", 3, "--seed", 4, "--sweeps", 2)
    _, printed, _ = run("infill", folder, *MASKED, *options, "--json")
    expected = Model.load(folder).infill(
        MASKED,
        strategy=strategy,  # type: ignore[arg-type]
        samples=3,
        seed=4,
        sweeps=2,
    )
    assert json.loads(printed) == [[as_json(item) for item in each] for each in expected]


def test_infill_prints_a_line_for_each_filling(run: Run, folder: Path) -> None:
    _, printed, _ = run("infill", folder, *MASKED, "--temperature", 0)
    expected = Model.load(folder).infill(MASKED, temperature=0)
    assert printed.splitlines() == [
        f"{item.log_likelihood:.3f}\t{item.text}" for (item,) in expected
    ]


def test_generate_prints_what_python_returns(run: Run, folder: Path) -> None:
    drawing = ("--temperature", 0.8, "--top-k", 9, "--top-p", 0.9, "--seed", 1)
    command = ("generate", folder, "MKT", "--max-tokens", 6, "--samples", 2, *drawing)
    _, printed, _ = run(*command, "--json")
    (expected,) = Model.load(folder).generate(
        ["MKT"], max_tokens=6, samples=2, temperature=0.8, top_k=9, top_p=0.9, seed=1
    )
    assert json.loads(printed) == [as_json(item) for item in expected]
    _, printed, _ = run(*command)
    for item in expected:
        assert f"{item.log_likelihood:.3f} nats\n{item.prefix}{item.text}\n" in printed


def test_one_sample_is_printed_alone_on_a_terminal_or_not(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("generate", folder, "MKT", "--max-tokens", 6)
    ((expected,),) = Model.load(folder).generate(["MKT"], max_tokens=6)
    assert run(*command)[1] == expected.prefix + expected.text + "\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(*command)[1] == expected.prefix + expected.text + "\n"


@pytest.mark.parametrize(
    ("command", "exit_code", "message"),
    [
        (("infill", "MKT<mask>", "--strategy", "best"), 2, "strategy = 'best': it is one of"),
        (("infill", "MKT"), 3, "There is no <mask> in 'MKT'"),
        (("generate", "MKT<mask>"), 3, "Fill the masks first, with infill"),
        (("generate", "MKT", "--context", "bidirectional"), 2, "context = 'bidirectional'"),
        (("generate", "MKT", "--top-p", 0), 2, "top_p = 0.0: must be above 0"),
    ],
    ids=["strategy", "no mask", "mask", "context", "top-p"],
)
def test_mistakes_are_one_line(
    run: Run, folder: Path, command: tuple[object, ...], exit_code: int, message: str
) -> None:
    name, *arguments = command
    code, printed, error = run(name, folder, *arguments)
    assert (code, printed) == (exit_code, "")
    assert message in error
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
