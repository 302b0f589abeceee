"""Launches are measured where that is asked for, and only once per machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from seqmlm_kernels import attention
from seqmlm_kernels.triton import tuned_launches
from seqmlm_kernels.triton.attention_plan import launch_of
from seqmlm_kernels.triton.launch import AttentionLaunch, Kind, LaunchKey, table_launch
from seqmlm_kernels.triton.tuning import Workload, candidates, tune

CPU = torch.device("cpu")
TINY = Workload(length=20, sequences=1, heads=1)
SMALL = AttentionLaunch(32, 16, 1, 1)


def key_of(kind: Kind = "forward", *, is_restricted: bool = False) -> LaunchKey:
    return LaunchKey.of(
        kind,
        architecture="sm_90",
        padded_head_dim=16,
        dtype=torch.float32,
        is_restricted=is_restricted,
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQMLM_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setattr(tuned_launches, "_launches", {})
    return tmp_path


@pytest.fixture
def tuning_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMLM_AUTOTUNE", "1")


@pytest.mark.parametrize("is_restricted", [False, True], ids=["all pairs", "restricted"])
@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_candidate_is_measured_and_the_fastest_is_kept(
    cache: Path, kind: Kind, is_restricted: bool
) -> None:
    key = key_of(kind, is_restricted=is_restricted)
    launches = (SMALL, AttentionLaunch(16, 16, 1, 1))
    measured = tune(key, CPU, launches=launches, workload=TINY)
    assert {one.launch for one in measured} == set(launches)
    times = [one.median_ms for one in measured if one.median_ms is not None]
    assert times == sorted(times)
    assert len(times) == 2
    (file,) = (path for path in cache.rglob("*") if path.is_file())
    assert file.name == f"{key}.json"
    kept = json.loads(file.read_text())["launch"]
    assert AttentionLaunch(**kept) == measured[0].launch


@pytest.mark.usefixtures("tuning_enabled")
def test_what_was_kept_is_used_by_later_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned_launches.keep_launch(key_of(), CPU, SMALL)
    monkeypatch.setattr(tuned_launches, "_launches", {})
    assert launch_of(key_of(), CPU) == SMALL != table_launch(key_of())


def test_launch_that_is_known_is_found_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned_launches.keep_launch(key_of(), CPU, SMALL)
    monkeypatch.delattr(tuned_launches, "_path")
    assert tuned_launches.tuned_launch(key_of(), CPU) == SMALL


def test_every_folder_has_launches_of_its_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = AttentionLaunch(16, 16, 1, 1)
    tuned_launches.keep_launch(key_of(), CPU, SMALL)
    monkeypatch.setenv("SEQMLM_KERNEL_CACHE", str(cache / "other"))
    tuned_launches.keep_launch(key_of(), CPU, other)
    assert tuned_launches.tuned_launch(key_of(), CPU) == other
    monkeypatch.setenv("SEQMLM_KERNEL_CACHE", str(cache))
    assert tuned_launches.tuned_launch(key_of(), CPU) == SMALL


def test_what_was_kept_is_not_used_unless_asked_for() -> None:
    tuned_launches.keep_launch(key_of(), CPU, SMALL)
    assert launch_of(key_of(), CPU) == table_launch(key_of())


@pytest.mark.usefixtures("tuning_enabled")
def test_first_call_tunes_and_gives_the_same_result(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = torch.randn(5, 1, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    arguments = {"cu_seqlens": torch.tensor([0, 5]), "max_seqlen": 5, "backend": "triton"}

    def kinds() -> list[str]:
        return sorted(path.stem.split("-")[-2] for path in cache.rglob("*.json"))

    tuned = attention(q, q, q, **arguments)  # type: ignore[arg-type]
    assert kinds() == ["forward"]
    tuned.sum().backward()
    assert kinds() == ["backward_keys", "backward_queries", "forward"]
    monkeypatch.setenv("SEQMLM_AUTOTUNE", "0")
    assert torch.equal(tuned, attention(q, q, q, **arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"launch": {"outer": 32}}, "missing"),
        ({"outer": 7}, "outer and inner are among"),
        ({"inner": 0}, "outer and inner are among"),
        ({"num_warps": 3}, "num_warps is among"),
        ({"lengths": "short"}, "leaves out sequences"),
        ({"key": "another"}, "it is of another"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
@pytest.mark.usefixtures("tuning_enabled")
def test_damaged_file_is_named(changes: dict[str, Any], reason: str) -> None:
    path = tuned_launches.keep_launch(key_of(), CPU, SMALL)
    kept = json.loads(path.read_text())
    launch = {name: value for name, value in changes.items() if name in kept["launch"]}
    content = {**kept, "launch": {**kept["launch"], **launch}, **changes}
    path.write_text(json.dumps(content))
    tuned_launches._launches.clear()
    with pytest.raises(ValueError, match=rf"holds no launch .*{reason}.*delete it to measure anew"):
        launch_of(key_of(), CPU)


@pytest.mark.usefixtures("tuning_enabled")
def test_processes_that_tune_at_once_go_on_with_the_first_launch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = SMALL, AttentionLaunch(16, 16, 1, 1)

    def tuned_by_two(key: LaunchKey, device: torch.device) -> None:
        tuned_launches.keep_launch(key, device, first)
        tuned_launches._launches.clear()  # that was the other process
        tuned_launches.keep_launch(key, device, second)

    monkeypatch.setattr(tuned_launches, "_tune_attention", tuned_by_two)
    assert tuned_launches.tuned_launch(key_of(), CPU) == first


def test_folder_that_cannot_be_written_costs_no_step(
    cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "file").write_text("in the way")
    monkeypatch.setenv("SEQMLM_KERNEL_CACHE", str(cache / "file"))
    tuned_launches.keep_launch(key_of(), CPU, SMALL)
    assert "cannot be written" in caplog.text
    assert tuned_launches.tuned_launch(key_of(), CPU) == SMALL


def test_launch_of_the_table_is_the_first_candidate() -> None:
    for kind in get_args(Kind):
        found = candidates(key_of(kind))
        assert found[0] == table_launch(key_of(kind))
        assert len(set(found)) == len(found) > 4


def test_key_names_all_that_a_launch_depends_on() -> None:
    key = LaunchKey("3.6", "sm_90", 128, torch.bfloat16, "ieee", "backward_keys", True)
    assert str(key) == "triton-3.6-sm_90-128-bfloat16-ieee-backward_keys-restricted"
