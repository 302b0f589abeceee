"""What the races of the GPU benchmark time; here everyone is interpreted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import attention
from benchmarks.gpu.race import Contestant
from benchmarks.gpu.session import Session


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
