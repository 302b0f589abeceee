"""What the races of the GPU benchmark time; here everyone is interpreted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import (
    attention,
    cross_entropy,
    goals,
    projection_tuning,
    race,
    rotary,
    training_step,
)  # fmt: skip
from benchmarks.gpu.race import Contestant
from benchmarks.gpu.session import Session
from seqmlm_kernels.triton.projection_tiles import TilesKey
from seqmlm_kernels.triton.projection_tuning import PARTS


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A rehearsal: tiny shapes on the CPU."""
    return Session(tmp_path / "part.json", is_rehearsal=True)


@pytest.fixture
def line_ups(monkeypatch: pytest.MonkeyPatch) -> dict[str, Sequence[Contestant]]:
    """Contestants by case, of races that are not run."""
    found: dict[str, Sequence[Contestant]] = {}

    def keep(session: Session, case: str, contestants: Sequence[Contestant], **_: Any) -> None:
        found[case] = contestants

    monkeypatch.setattr(attention, "race", keep)
    return found


def turn_of(name: str, contestants: Sequence[Contestant]) -> Callable[[], object]:
    (contestant,) = (one for one in contestants if one.name == name)
    return contestant.make()


@pytest.mark.parametrize(("name", "tables"), [(attention.REBUILT, 3), ("seqmlm", 1)])
@pytest.mark.parametrize(
    "case", [attention.packed_case("text", "forward"), attention.PSEUDO_MASKED]
)
def test_only_ours_of_the_races_against_rebuilt_masks_makes_its_tables_in_each_call(
    session: Session,
    line_ups: dict[str, Sequence[Contestant]],
    made_tables: list[Any],
    case: str,
    name: str,
    tables: int,
) -> None:
    attention.packed_rows(session, "text", attention.FORWARD)
    attention.pseudo_masked_rows(session)
    run = turn_of(name, line_ups[case])
    for _ in range(3):
        run()
    assert len(made_tables) == tables


def test_warm_up_of_a_large_vocabulary_needs_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, cross_entropy.Case] = {}

    def keep(case: cross_entropy.Case, *_: Any) -> None:
        made[case.name] = case

    monkeypatch.setattr(cross_entropy, "operands_of", keep)
    monkeypatch.setattr(cross_entropy, "contestants", lambda *_: [])
    monkeypatch.setattr(cross_entropy, "race", lambda *_, **__: None)
    monkeypatch.setattr(Session, "device", torch.device("cpu"))
    warm_up = Session(tmp_path / "part.json", is_rehearsal=False, is_warm_up=True)
    for case in cross_entropy.TIMED:
        cross_entropy.time_case(warm_up, case)
    assert made[cross_entropy.TEXT] == cross_entropy.TIMED[0]
    assert made[cross_entropy.ENTITIES].predictions == 1073


def test_fastest_tiles_of_every_kernel_of_a_projection_are_recorded(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQMLM_KERNEL_CACHE", str(tmp_path / "cache"))
    projection_tuning.run(session)
    assert "failures" not in session.tables
    rows = [row["row"] for row in session.tables["tuned launches"]]
    assert [row.partition("=")[0] for row in rows] == [
        f"'interpreter', {regime}: {part}" for regime, parts in PARTS.items() for part in parts
    ]
    candidates = session.tables["candidates"]
    assert not any(row["reason"] for row in candidates)
    for row in rows:
        regime, part = row.split(", ")[1].split("=")[0].split(": ")
        times = [one for one in candidates if one["key"].endswith(f"{regime}-{part}")]
        fastest = min(times, key=lambda one: one["median_ms"])
        assert f"hidden={fastest['hidden']}" in row
    assert len(list((tmp_path / "cache").rglob("*.json"))) == len(PARTS)


def test_warm_up_compiles_its_share_of_the_tiles_and_keeps_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[Any, ...]] = []

    def measure(key: TilesKey, device: torch.device, part: str, *_: Any, rounds: int) -> None:
        measured.append((key.regime, part, rounds))

    monkeypatch.setattr(projection_tuning, "measure_part", measure)
    for index in range(4):
        projection_tuning.run(
            Session(tmp_path / "part.json", is_rehearsal=True, shard=(index, 4), is_warm_up=True)
        )
    pieces = [(regime, part, 1) for regime, parts in PARTS.items() for part in parts]
    assert sorted(measured) == sorted(pieces)


class StubClock:
    """Runs, and says that it took a millisecond."""

    def __init__(self, session: Session) -> None:
        pass

    def time_ms(self, run: Callable[[], object]) -> float:
        run()
        return 1.0


def test_graph_takes_a_turn_in_each_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    monkeypatch.setattr(race, "_Clock", StubClock)
    monkeypatch.setattr(race, "_extra_mib", lambda session, run: 0.0)
    graph = partial(turns.append, "graph of ours")
    monkeypatch.setattr(race, "_captured", lambda run: (graph, None))
    session = Session(tmp_path / "part.json", is_rehearsal=False)
    contestants = [
        Contestant(name, partial(partial, turns.append, name)) for name in ("ours", "peer")
    ]
    race.race(session, "case", contestants, graphed=("ours",))
    assert turns[-6:] == ["ours", "graph of ours", "peer"] * 2
    ours, peer = session.tables["times"]
    assert (ours["graph_ms"], peer["graph_ms"]) == (1.0, None)


@pytest.mark.slow
def test_races_on_a_gpu_have_everyone_that_a_goal_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there_are: set[tuple[str, str]] = set()

    def keep(session: Session, case: str, contestants: Sequence[Contestant], **_: Any) -> None:
        there_are.update((case, one.name) for one in contestants)

    for module in (attention, cross_entropy, rotary, training_step):
        monkeypatch.setattr(module, "race", keep)
    monkeypatch.setattr(Session, "device", torch.device("cpu"))
    # Operands are of no use where nobody runs: as few heads and units as there can be.
    monkeypatch.setattr(attention, "HIDDEN_SIZE", 128)
    monkeypatch.setattr(cross_entropy, "operands_of", lambda *_: None)
    monkeypatch.setattr(rotary, "HEADS", 1)
    session = Session(tmp_path / "part.json", is_rehearsal=False)
    for module in (attention, cross_entropy, rotary, training_step):
        module.run(session)
    assert "failures" not in session.tables, session.tables["failures"]
    for goal in goals.GOALS:
        assert (goal.case, goal.ours) in there_are, goal
        peer = goal.peer_case or goal.case, goal.peer
        assert goal.peer == goals.PEAK or peer in there_are, goal
