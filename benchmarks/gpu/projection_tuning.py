"""Tiles of the kernels over a vocabulary, raced in the case that they are for.

One of the three sets of tiles is changed at a time, the others are the table's; every candidate
computes the same loss and gradients. The rows of "tuned launches" can be pasted into ``_TILES`` of
``seqmlm_kernels/triton/projection_plan.py``.
"""

# M predictions, V vocabulary, E hidden size

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch

from benchmarks.gpu import cross_entropy
from benchmarks.gpu.cross_entropy import Case, Operands
from benchmarks.gpu.race import Contestant, race
from benchmarks.gpu.session import Session
from seqmlm_kernels.triton import projection_launch, projection_plan
from seqmlm_kernels.triton.launch import INTERPRETED, architecture_of
from seqmlm_kernels.triton.projection_plan import ProjectionPlan, Tiles, plan_projection

# Beside the table's own, for 16-bit inputs; what does not fit a device is refused by its compiler.
CANDIDATES: Mapping[str, tuple[Tiles, ...]] = {
    # The forward, and the gradient of the scores.
    "scores": (
        Tiles(128, 256, 64, 8, 3),
        Tiles(256, 128, 64, 8, 3),
        Tiles(128, 128, 64, 8, 4),
        Tiles(128, 128, 128, 8, 2),
        Tiles(128, 128, 64, 4, 3),
    ),
    "hidden_gradient": (
        Tiles(128, 64, 256, 8, 3),
        Tiles(256, 64, 128, 8, 3),
        Tiles(128, 64, 128, 8, 4),
        Tiles(128, 128, 128, 8, 2),
    ),
    "weight_gradient": (
        Tiles(64, 128, 256, 8, 4),
        Tiles(64, 128, 256, 8, 2),
        Tiles(32, 128, 256, 8, 4),
        Tiles(64, 128, 128, 8, 4),
        Tiles(64, 128, 128, 4, 3),
    ),
}
REHEARSED = Tiles(32, 32, 32, 1, 1)
# Of the largest number of a result, as in `seqmlm_kernels.triton.tuning`.
_LARGEST_DIFFERENCE = 2e-2


def case_of(part: str) -> str:
    """Name of the race of one set of tiles."""
    return f"tiles of {part}, {cross_entropy.TEXT}"


def tune_tiles(session: Session, part: str) -> None:
    """Race the candidates of one set of tiles and record the fastest."""
    case = cross_entropy.TIMED[0]
    if session.is_rehearsal:
        case = replace(case, tokens=8, predictions=5, vocabulary=260, hidden_size=16)
    operands = cross_entropy.operands_of(case, torch.bfloat16, session.device)
    rows = {
        str(tiles[part]): tiles
        for tiles in candidates(part, architecture_name(session), is_rehearsal=session.is_rehearsal)
    }
    contestants = [
        Contestant(name, partial(_turn, session, case, operands, tiles))
        for name, tiles in rows.items()
    ]
    race(session, case_of(part), contestants)
    if not session.is_warm_up:
        _record_fastest(session, part, rows)


def architecture_name(session: Session) -> str:
    """The row of the table that the device has."""
    return "interpreter" if INTERPRETED else architecture_of(session.device)


def candidates(
    part: str, architecture: str, *, is_rehearsal: bool = False
) -> Iterator[dict[str, Tiles]]:
    """All three sets of tiles, the table's first; none of which the kernels cannot combine."""
    table = dict(zip(CANDIDATES, projection_plan._TILES[architecture, 2], strict=True))
    yield table
    for tiles in (REHEARSED,) if is_rehearsal else CANDIDATES[part]:
        changed = table | {part: tiles}
        others = (changed["hidden_gradient"], changed["weight_gradient"])
        fits = all(changed["scores"].vocabulary % one.vocabulary == 0 for one in others)
        if fits and tiles != table[part]:
            yield changed


def plan_with(session: Session, case: Case, tiles: Mapping[str, Tiles]) -> ProjectionPlan:
    """The plan of a case under other tiles: those of an architecture of their own."""
    architecture = architecture_name(session)
    name = f"{architecture} with {tiles}"
    scores, hidden_gradient, weight_gradient = tiles.values()
    projection_plan._TILES[name, 2] = scores, hidden_gradient, weight_gradient
    projection_plan._ONE_PASS_TILES[name] = projection_plan._ONE_PASS_TILES[architecture]
    return plan_projection(
        case.predictions,
        case.vocabulary,
        case.hidden_size,
        dtype=torch.bfloat16,
        architecture=name,
        multiprocessors=projection_plan.multiprocessors_of(session.device),
    )


@contextmanager
def planned(plan: ProjectionPlan) -> Iterator[None]:
    """Inside, every projection runs by this plan."""
    plan_of = projection_launch.plan_of
    projection_launch.plan_of = lambda projection: plan
    try:
        yield
    finally:
        projection_launch.plan_of = plan_of


def _turn(
    session: Session, case: Case, operands: Operands, tiles: Mapping[str, Tiles]
) -> Callable[[], object]:
    """Loss and gradients by a plan with these tiles, which must be those of the table's plan."""
    plan = plan_with(session, case, tiles)

    def turn() -> tuple[torch.Tensor, ...]:
        with planned(plan):
            return cross_entropy.results_of(cross_entropy.ours, operands, None)

    expected = cross_entropy.results_of(cross_entropy.ours, operands, None)
    for found, wanted in zip(turn(), expected, strict=True):
        difference = float((found.float() - wanted.float()).abs().max())
        if not difference <= _LARGEST_DIFFERENCE * float(wanted.abs().max()):
            raise RuntimeError(f"differs by {difference:.3g} from the table's tiles")
    return turn


def _record_fastest(session: Session, part: str, rows: Mapping[str, dict[str, Tiles]]) -> None:
    medians = {
        row["contestant"]: row["median_ms"]
        for row in session.tables["times"]
        if row["case"] == case_of(part) and "failure" not in row
    }
    table, fastest = next(iter(rows)), min(medians, key=lambda name: medians[name])
    session.record(
        "tuned launches",
        row=f"({architecture_name(session)!r}, 2): {tuple(rows[fastest].values())!r},",
        speed_up=medians[table] / medians[fastest] if table in medians else None,
    )
