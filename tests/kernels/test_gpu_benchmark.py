"""The GPU benchmark is rehearsed on a CPU, so that no line of it runs first on a rented GPU."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
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
@pytest.mark.timeout(1800)
def test_every_section_of_the_gpu_benchmark_runs_on_a_cpu(rehearsal: dict[str, Any]) -> None:
    tables = rehearsal["rounds"]
    assert "failures" not in tables, tables["failures"]
    assert "stopped" not in tables, tables["stopped"]
    assert {"correctness", "candidates", "tuned launches", "times"} <= tables.keys()
    assert all(row["is_accepted"] for row in tables["correctness"])
    failed = {
        row["contestant"]
        for row in tables["times"]
        # FlexAttention has no backward on a CPU.
        if "failure" in row and not row["contestant"].startswith(("FlexAttention", "Hugging"))
    }
    assert failed <= ABSENT_PEERS
    # Of a projection: two kernels in one regime, four in each of the other three.
    assert sum("Tiles(" in row["row"] for row in tables["tuned launches"]) == 2 + 3 * 4
    ran = {row["contestant"] for row in tables["times"] if "failure" not in row}
    assert {
        "seqmlm",
        "seqmlm, tuned",
        "seqmlm, atomic",
        "seqmlm, layout rebuilt",
        "FlexAttention",
        "FlexAttention, mask rebuilt",
    } <= ran


@pytest.mark.slow
def test_goals_are_judged_by_the_times_of_their_cases(rehearsal: dict[str, Any]) -> None:
    goals = rehearsal["summary"]["goals"]
    cases = {row["case"] for row in rehearsal["rounds"]["times"]}
    judged = {goal["case"] for goal in goals if goal["verdict"] != "not measured"}
    assert judged <= cases
    assert "training step, ModernBERT-base size, text" in judged
    for goal in goals:
        if goal["goal"] is None:
            assert goal["ours"] == "seqmlm, atomic" or "rotary" in goal["case"]
        elif goal["ratio"] is not None:
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
BRANCH = {"dtype": "bfloat16", "branches": ["statistics_kernel: IS_SPLIT = True"]}
OTHER_BRANCH = {"dtype": "float16", "branches": ["statistics_kernel: IS_SPLIT = True"]}
CHECKS = {"checks": ["a"]}
PROOF = {
    "checks_that_there_are": [CHECKS],
    "checks_that_ended": [{"check": "a"}],
    "correctness": [RIGHT],
    "branches_that_there_are": [BRANCH],
    "branches_that_are_right": [BRANCH],
}


def test_verdict_names_the_line_to_change(results: Callable[..., Any]) -> None:
    assert (
        results(**PROOF)
        .verdict()
        .endswith("PROVEN_CAPABILITIES: frozenset[tuple[int, int]] = frozenset({(9, 0)})")
    )


def test_branches_that_were_never_run_are_listed(
    results: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    made = results(**PROOF | {"branches_that_there_are": [BRANCH, OTHER_BRANCH]})
    assert made.never_run() == ["float16: statistics_kernel: IS_SPLIT = True"]
    made.print_tables(elapsed_s=1.0)
    printed = capsys.readouterr().out
    assert "branches: 1 of 2 ran and were right" in printed
    assert "NEVER RUN float16: statistics_kernel: IS_SPLIT = True" in printed


@pytest.mark.parametrize(
    "tables",
    [
        {},
        PROOF | {"correctness": [RIGHT, RIGHT | {"is_accepted": False}]},
        PROOF | {"correctness": [RIGHT, RIGHT | {"is_deterministic": False}]},
        PROOF | {"failures": [{"what": "correctness, share 2", "reason": "fault"}]},
        PROOF | {"rejected_targets": [{"count": 1}]},
        PROOF | {"branches_that_there_are": [BRANCH, OTHER_BRANCH]},
        PROOF | {"checks_that_ended": []},
        {"correctness": [RIGHT]},
    ],
    ids=[
        *("nothing", "wrong", "not deterministic", "failed", "rejected targets"),
        *("a branch was never run", "a check has not ended", "branches are not known"),
    ],
)
def test_verdict_is_no_proof_if_anything_is_missing(
    results: Callable[..., Any], tables: dict[str, Any]
) -> None:
    made = results(**tables)
    assert not made.is_right()
    assert "NOT proven on NVIDIA H200" in made.verdict()


def test_what_the_clock_stopped_is_not_called_wrong(
    results: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    made = results(
        **PROOF
        | {
            "checks_that_there_are": [{"checks": ["a", "b", "c"]}],
            "stopped": [{"what": "correctness, share 2 of 12", "reason": "stopped after 9 s"}],
        }
    )
    assert made.unfinished() == ["b", "c"]
    assert not made.is_wrong()
    assert not made.is_right()
    made.print_tables(elapsed_s=1.0)
    printed = capsys.readouterr().out
    assert "nothing that ran is wrong, but the kernels are NOT proven" in printed
    assert "2 checks were not finished and 0 branches were not run" in printed
    assert "NOT FINISHED b" in printed
    assert "not finished: correctness, share 2 of 12: stopped after 9 s" in printed


def test_checks_alone_have_all_the_time() -> None:
    from benchmarks.gpu.__main__ import LIMIT_S, MEASURING_S, PROCESSES, first_step

    alone = first_step(["correctness"])
    assert {share.limit_s for share in alone} == {LIMIT_S}
    assert [share.shard for share in alone] == [(i, 12) for i in range(12)]
    together = first_step(PROCESSES)
    assert {share.limit_s for share in together} == {LIMIT_S - sum(MEASURING_S.values())}
    assert {share.section for share in together if not share.is_warm_up} == {"correctness"}
    assert min(share.limit_s for share in together) >= 150


def test_share_that_the_clock_stops_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.gpu import processes

    monkeypatch.setattr(processes, "_REHEARSAL_LIMIT_S", 0.01)
    runner = processes.Runner(tmp_path, is_rehearsal=True)
    share = processes.Share("correctness", (0, 2), 1.0, is_warm_up=False)
    ((_, tables),) = runner.run_at_once([share])
    assert [row["what"] for row in tables["stopped"]] == ["correctness, share 1 of 2"]
    assert "failures" not in tables


def test_process_is_ended_with_its_children() -> None:
    from benchmarks.gpu.processes import end_with_children

    process = subprocess.Popen(
        ["sh", "-c", "sleep 600 & echo started; wait"],
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == "started\n"
        end_with_children(process)
        # The child held the pipe open.
        assert output.read() == ""


STEP = "training step, ModernBERT-base size, text"


@pytest.mark.parametrize(
    ("tflops", "peak_tflops", "verdict"),
    [(400.0, 989.0, "reached"), (300.0, 989.0, "missed"), (400.0, None, "not measured")],
)
def test_training_step_is_to_reach_a_share_of_the_peak(
    tflops: float, peak_tflops: float | None, verdict: str
) -> None:
    from benchmarks.gpu.goals import PEAK, outcomes

    times = [{"case": STEP, "contestant": "seqmlm", "tflops": tflops, "median_ms": 1.0}]
    (row,) = (
        row
        for row in outcomes(times, peak_tflops=peak_tflops)
        if (row["case"], row["peer"]) == (STEP, PEAK)
    )
    assert row["verdict"] == verdict
    assert row["goal"] == 0.35
    assert row["ratio"] == (None if peak_tflops is None else pytest.approx(tflops / 989))


def test_who_makes_a_mask_in_every_call_meets_ours_that_makes_its_tables_there() -> None:
    from benchmarks.gpu.goals import GOALS

    goals = [goal for goal in GOALS if "mask rebuilt" in goal.peer or goal.peer == "SDPA, padded"]
    assert len(goals) == 4
    assert {goal.ours for goal in goals} == {"seqmlm, layout rebuilt"}
    (prebuilt,) = (goal for goal in GOALS if goal.peer == "FlexAttention")
    assert prebuilt.ours == "seqmlm"


@pytest.mark.parametrize(("growth", "verdict"), [(2.0, "reached"), (4.0, "missed")])
def test_memory_that_grows_as_a_mask_does_misses_its_goal(growth: float, verdict: str) -> None:
    from benchmarks.gpu.attention import LONG_CONTEXTS, REBUILT, long_row_case
    from benchmarks.gpu.goals import outcomes

    half, whole = map(long_row_case, LONG_CONTEXTS)
    times = [
        {"case": half, "contestant": REBUILT, "extra_mib": 10.0},
        {"case": whole, "contestant": REBUILT, "extra_mib": growth * 10.0},
    ]
    (row,) = (row for row in outcomes(times, peak_tflops=None) if row["case"] == whole)
    assert (row["quantity"], row["verdict"]) == ("memory", verdict)
    assert row["ratio"] == pytest.approx(1 / growth)


def test_cases_that_wait_for_the_host_are_judged_by_a_graph_as_well() -> None:
    from benchmarks.gpu.goals import outcomes

    case = "packed triples, D 64, forward"
    times = [
        {"case": case, "contestant": "seqmlm", "median_ms": 3.0, "graph_ms": 1.0},
        {"case": case, "contestant": "torch varlen", "median_ms": 3.0, "graph_ms": 3.0},
    ]
    rows = [row for row in outcomes(times, peak_tflops=None) if row["case"] == case]
    assert [(row["quantity"], row["ratio"], row["verdict"]) for row in rows] == [
        ("time with launches", 1.0, "missed"),
        ("time of a CUDA graph", 3.0, "reached"),
    ]


def test_machine_without_a_gpu_is_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from benchmarks.gpu import __main__ as script

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert script.main() == 2
    told = capsys.readouterr().err
    assert "is built for the CPU alone" in told
    assert "usage:" not in told
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "there is no NVIDIA driver" in str(script.why_no_gpu())
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert "does nvidia-smi list one" in str(script.why_no_gpu())
