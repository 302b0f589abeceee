"""The GPU's proof of correctness takes every branch; here its kernels are recorded, not run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.gpu import attention_checks, branches, correctness, race
from benchmarks.gpu.claims import Claims
from benchmarks.gpu.session import Session
from seqmlm_kernels.triton.launch import (
    AttentionLaunch,
    LaunchKey,
    launches_by_length,
)
from tests.kernels.triton import recorded_checks
from tests.kernels.triton.recorded_checks import BY_A_GPU, OnCpu

REPOSITORY = Path(__file__).parents[3]
# Of one run, the few of BY_A_GPU not counted: each takes a second of a CPU, and twelve processes
# share them for 150 seconds, of which they need 20 to begin and to compute what is expected.
MOST_COMPILED_KERNELS = 1500


def recorded(dtype: torch.dtype) -> tuple[set[str], int]:
    """Branches that all checks of a dtype take, and how many kernels are compiled for them."""
    child = subprocess.run(
        [sys.executable, "-O", "-m", recorded_checks.__name__, str(dtype).removeprefix("torch.")],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "TRITON_INTERPRET": "1",
            "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "kernels"))),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-4000:]
    found = json.loads(child.stdout)
    return set(found["branches"]), found["num_compiled"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", correctness.DTYPES, ids=["bf16", "fp16", "fp32"])
def test_checks_on_a_gpu_take_every_branch(dtype: torch.dtype) -> None:
    taken, num_compiled = recorded(dtype)
    there_are = branches.required(dtype, "sm_90")
    assert there_are - taken - set(BY_A_GPU) == set()
    assert taken - there_are == set()
    assert num_compiled <= MOST_COMPILED_KERNELS / len(correctness.DTYPES)


def test_mixed_lengths_get_launches_of_their_own() -> None:
    lengths = attention_checks.MIXED
    found = launches_by_length(
        LaunchKey.of(
            "forward",
            architecture="sm_90",
            padded_head_dim=64,
            dtype=torch.bfloat16,
            is_restricted=False,
        ),
        AttentionLaunch(outer=128, inner=64, num_warps=4, num_stages=3),
        max_seqlen=max(lengths),
        num_sequences=len(lengths),
        tokens=sum(lengths),
    )
    assert [launch.lengths for launch in found] == ["long", "short"]


def test_new_constexpr_must_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "FLAGS", branches.FLAGS[1:])
    with pytest.raises(ValueError, match="constexpr HAS_VISIBILITY: add it to FLAGS or SIZES"):
        branches.required(torch.bfloat16, "sm_90")


def launch(arguments: dict[str, Any]) -> set[str]:
    launches = branches.Launches()
    launches.add("statistics_kernel", arguments)
    return launches.branches


def num_compiled(name: str, values: Sequence[object], unspecialised: Collection[str] = ()) -> int:
    launches = branches.Launches()
    for value in values:
        launches.add("kernel", {name: value}, unspecialised)
    return len(launches.variants)


def test_integers_are_compiled_for_as_triton_specialises_them() -> None:
    assert num_compiled("num_words", [16, 32, 48]) == 1
    assert num_compiled("num_words", [16, 1, 2, 3, 1 << 40]) == 4
    assert num_compiled("num_words", [16, 1, 2, 1 << 40], {"num_words"}) == 2
    assert num_compiled("scale", [1.0, 2.0]) == 1
    assert num_compiled("bias_ptr", [None, torch.zeros(1)]) == 2
    assert num_compiled("x_ptr", [torch.zeros(4)[start:] for start in (0, 1, 2)]) == 2
    for number in ("BLOCK_V", "num_warps"):
        assert num_compiled(number, [16, 32]) == 2


def test_branches_are_read_off_a_launch() -> None:
    arguments = {
        "vocabulary_size": 300, "num_splits": 4, "BLOCK_V": 128, "SETS": "shared", "EVEN_E": True,
        "UPCAST": False,
    }  # fmt: skip
    assert launch(arguments) == {
        "statistics_kernel: SETS = shared",
        "statistics_kernel: EVEN_E = True",
        "statistics_kernel: num_splits = several",
        "statistics_kernel: vocabulary tiles = several",
    }
    assert "statistics_kernel: vocabulary tiles = one" in launch(arguments | {"BLOCK_V": 512})


def test_recording_sees_what_is_launched_and_ends() -> None:
    x = torch.zeros(1, 1, 16)
    table = torch.zeros(2, 1, 16)
    from seqmlm_kernels.triton.rotary import rotary

    with branches.recorded() as launches:
        rotary(x, x, table)
    assert launches.branches == {"rotate_kernel: head_dim 16"}
    assert launches.kernels() == {"rotate_kernel"}
    with branches.recorded() as later:
        pass
    rotary(x, x, table)
    assert not later.branches


@pytest.mark.parametrize(
    ("found", "error"),
    [
        ([1.0, -torch.inf], 0.0),
        ([1.5, -torch.inf], 0.5),
        ([1.0, 0.0], torch.inf),
        ([1.0], torch.inf),
        ([torch.nan, -torch.inf], None),
    ],
    ids=["right", "wrong", "infinity missing", "shape", "not a number"],
)
def test_errors_are_shares_of_the_largest_number(found: list[float], error: float | None) -> None:
    expected = torch.tensor([1.0, -torch.inf], dtype=torch.float64)
    measured = correctness.error_of(torch.tensor(found), expected)
    assert measured == error if error is not None else measured != measured


def check(
    tmp_path: Path, run: Callable[[], tuple[Tensor, ...]], **options: Any
) -> tuple[bool, list[str]]:
    """Whether a comparison with 1 was accepted and repeated, and the branches that it kept."""
    session = OnCpu(tmp_path / "part.json", is_rehearsal=False)
    one = partial(torch.ones, 1, dtype=torch.float64)
    comparison = correctness.Comparison(
        "case", ("x",), run, lambda: (one(),), ways=("a way",), **options
    )
    correctness.compare(session, torch.float32, comparison)
    (row,) = session.tables["correctness"]
    kept = session.tables.get("branches that are right", [])
    return row["is_accepted"] and row.get("is_deterministic", True), [
        name for row in kept for name in row["branches"]
    ]


def test_only_what_is_right_and_repeats_keeps_its_branches(tmp_path: Path) -> None:
    runs = iter([1.0, 1.0 + 2e-6, 1.0, 1.0 + 2e-6])

    def differs() -> tuple[Tensor, ...]:
        return (torch.tensor([next(runs)]),)

    assert check(tmp_path, lambda: (torch.ones(1),)) == (True, ["a way"])
    assert check(tmp_path, lambda: (torch.zeros(1),)) == (False, [])
    assert check(tmp_path, differs) == (False, [])
    assert check(tmp_path, differs, must_repeat=False) == (True, ["a way"])


def test_tf32_may_be_as_wrong_as_fp16(tmp_path: Path) -> None:
    def nearly() -> tuple[Tensor, ...]:
        return (torch.tensor([1.001]),)

    assert check(tmp_path, nearly, precision="tf32") == (True, ["a way"])
    assert check(tmp_path, nearly) == (False, [])


def pieces_of_a_device_short_of_memory() -> list[correctness.Piece]:
    tries = iter([True, False])

    def needs_much(session: Session) -> None:
        if next(tries):
            raise torch.OutOfMemoryError("others have it")

    def is_broken(session: Session) -> None:
        raise RuntimeError("fault")

    return [("much", needs_much), ("broken", is_broken)]


def test_check_without_memory_can_be_done_again_and_one_that_raises_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = pieces_of_a_device_short_of_memory()
    monkeypatch.setattr(correctness, "pieces", lambda dtypes, *, is_rehearsal: iter(pieces))
    session = Session(tmp_path / "part.json", is_rehearsal=True)
    correctness.run(session)
    assert [row["check"] for row in session.tables["checks that ended"]] == ["broken"]
    assert [row["what"] for row in session.tables["failures"]] == ["correctness: broken"]
    assert [row["what"] for row in session.tables["stopped"]] == ["correctness: much"]
    Claims(tmp_path / "claims").release()
    correctness.run(session)
    assert [row["check"] for row in session.tables["checks that ended"]] == ["broken", "much"]


def test_process_whose_device_is_lost_leaves_the_other_checks_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("an illegal memory access was encountered")

    session = Session(tmp_path / "part.json", is_rehearsal=True)
    session.stop_if_device_is_lost()
    monkeypatch.setattr(torch, "zeros", refuse)
    with pytest.raises(SystemExit, match="the device was lost: RuntimeError: an illegal memory"):
        session.stop_if_device_is_lost()


def test_nothing_is_warmed_up_that_compiles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    contestants = [
        race.Contestant(name, partial(partial, ran.append, name), compiles)
        for name, compiles in (("ours", True), ("eager", False))
    ]
    session = Session(tmp_path / "part.json", is_rehearsal=True, is_warm_up=True)
    race.race(session, "case", contestants)
    assert len(ran) == 1
