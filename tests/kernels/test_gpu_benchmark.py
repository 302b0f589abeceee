"""The GPU benchmark is rehearsed on a CPU, so that no line of it runs first on a rented GPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
# Peers that have no CPU kernel, or are not among the packages of the tests.
ABSENT_PEERS = {"SDPA cuDNN", "torch varlen", "Liger", "cut cross-entropy"}


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the whole script writes."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("the package triton is not installed")
    folder = tmp_path_factory.mktemp("results")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--results", str(folder)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    assert "Verdict: the rehearsal is right" in finished.stdout
    (file,) = folder.iterdir()
    assert file.name.startswith("gpu-cpu-rehearsal-")
    content: dict[str, Any] = json.loads(file.read_text())
    return content


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_section_of_the_gpu_benchmark_runs_on_a_cpu(rehearsal: dict[str, Any]) -> None:
    tables = rehearsal["rounds"]
    assert "failures" not in tables, tables["failures"]
    assert {"correctness", "candidates", "tuned launches", "times"} <= tables.keys()
    assert all(row["is_accepted"] for row in tables["correctness"])
    failed = {
        row["contestant"]
        for row in tables["times"]
        # FlexAttention has no backward on a CPU.
        if "failure" in row and not row["contestant"].startswith(("FlexAttention", "Hugging"))
    }
    assert failed <= ABSENT_PEERS
    ran = {row["contestant"] for row in tables["times"] if "failure" not in row}
    assert {"seqmlm", "seqmlm, tuned", "FlexAttention", "FlexAttention, mask rebuilt"} <= ran


@pytest.mark.slow
def test_goals_are_judged_by_the_times_of_their_cases(rehearsal: dict[str, Any]) -> None:
    goals = rehearsal["summary"]["goals"]
    cases = {row["case"] for row in rehearsal["rounds"]["times"]}
    judged = {goal["case"] for goal in goals if goal["verdict"] != "not measured"}
    assert judged <= cases
    assert "training step, ModernBERT-base size, text" in judged
    for goal in goals:
        if goal["ratio"] is not None:
            assert (goal["verdict"] == "reached") == (goal["ratio"] >= goal["goal"])


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Results of an H200 with the given tables, without asking one."""
    from benchmarks.gpu import report

    card = {"card": "NVIDIA H200", "compute_capability": [9, 0]}
    monkeypatch.setattr(report, "_device", lambda *, is_rehearsal: card)

    def make(**tables: list[dict[str, Any]]) -> Any:
        made = report.Results(tmp_path, is_rehearsal=False)
        made.add("correctness", {name.replace("_", " "): rows for name, rows in tables.items()})
        return made

    return make


RIGHT = {"case": "a", "dtype": "bfloat16", "is_accepted": True, "is_deterministic": True}


def test_verdict_names_the_line_to_change(results: Callable[..., Any]) -> None:
    assert (
        results(correctness=[RIGHT])
        .verdict()
        .endswith("PROVEN_CAPABILITIES: frozenset[tuple[int, int]] = frozenset({(9, 0)})")
    )


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"correctness": [RIGHT, RIGHT | {"is_accepted": False}]},
        {"correctness": [RIGHT, RIGHT | {"is_deterministic": False}]},
        {"correctness": [RIGHT], "failures": [{"what": "correctness, share 2", "reason": "fault"}]},
        {"correctness": [RIGHT], "rejected_targets": [{"count": 1}]},
    ],
    ids=["nothing", "wrong", "not deterministic", "not finished", "rejected targets"],
)
def test_verdict_is_no_proof_if_anything_is_missing(
    results: Callable[..., Any], tables: dict[str, Any]
) -> None:
    made = results(**tables)
    assert not made.is_right()
    assert "NOT proven on NVIDIA H200" in made.verdict()
