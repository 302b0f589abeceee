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
    tuning,
)  # fmt: skip
from benchmarks.gpu.race import Contestant
from benchmarks.gpu.session import Session
from seqmlm_kernels.triton.launch import AttentionLaunch, LaunchKey, table_launch


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


def test_fastest_tiles_of_a_projection_are_recorded_for_the_table(session: Session) -> None:
    projection_tuning.tune_tiles(session, "scores")
    times = session.tables["times"]
    assert len(times) == 2
    assert not any("failure" in row for row in times)
    (tuned,) = session.tables["tuned launches"]
    fastest = min(times, key=lambda row: row["median_ms"])["contestant"]
    assert tuned["row"].startswith("('interpreter', 2): (Tiles(")
    assert fastest in tuned["row"]


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("part", projection_tuning.CANDIDATES)
def test_candidates_of_a_projection_differ_in_one_set_of_tiles(
    part: str, architecture: str
) -> None:
    table, *others = projection_tuning.candidates(part, architecture)
    assert len(others) >= 4
    for tiles in others:
        assert {name for name in tiles if tiles[name] != table[name]} == {part}
        assert all(tiles["scores"].vocabulary % one.vocabulary == 0 for one in tiles.values())
    sizes = {(tiles["scores"].predictions, tiles["scores"].vocabulary) for tiles in others}
    assert part != "scores" or {(128, 256), (256, 128)} <= sizes


def test_tiles_that_compute_something_else_do_not_take_part(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    results_of = cross_entropy.results_of
    calls = iter(range(9))

    def differs(*arguments: Any) -> tuple[torch.Tensor, ...]:
        factor = 2.0 if next(calls) == 1 else 1.0
        return tuple(x * factor for x in results_of(*arguments))

    monkeypatch.setattr(cross_entropy, "results_of", differs)
    projection_tuning.tune_tiles(session, "scores")
    failures = [row["failure"] for row in session.tables["times"] if "failure" in row]
    assert len(failures) == 1
    assert "from the table's tiles" in failures[0]


def test_keys_of_the_backward_are_tried_with_wide_inner_tiles() -> None:
    key = LaunchKey.of(
        "backward_keys",
        architecture="sm_90",
        padded_head_dim=128,
        dtype=torch.bfloat16,
        is_restricted=False,
    )
    found = tuning.candidates_of(key)
    assert found[0] == table_launch(key)
    assert AttentionLaunch(64, 128, 8, 2) in found
    assert len(set(found)) == len(found)


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
