"""Which tiles of the kernels over a vocabulary are fastest on a device, by regime."""

# M predictions, V vocabulary, E hidden size

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seqmlm_kernels.triton.launch import INTERPRETED, on_device
from seqmlm_kernels.triton.measuring import ROUNDS, Measured, measured
from seqmlm_kernels.triton.projection_backward import Needs, Upstream, backward
from seqmlm_kernels.triton.projection_forward import Projection, forward
from seqmlm_kernels.triton.projection_plan import (
    ProjectionPlan,
    multiprocessors_of,
    plan_projection,
    score_stride,
)
from seqmlm_kernels.triton.projection_tiles import (
    ProjectionTiles,
    Regime,
    Tiles,
    TilesKey,
    tiles_of,
)
from seqmlm_kernels.triton.tuned_launches import keep_launch

# Kernels that a training step of each regime launches, in the order in which they are tuned.
_MANY_TILES = ("scores", "score_gradient", "hidden_gradient", "weight_gradient")
PARTS: Mapping[Regime, tuple[str, ...]] = {
    "one_pass": ("scores", "one_pass"),
    "one_tile": _MANY_TILES,
    "materialised": _MANY_TILES,
    "recomputed": _MANY_TILES,
}
# Beside the table's own, for 16-bit inputs. A vocabulary tile of 0 is the table's. What does not
# fit a device is refused by its compiler. Of those with 256 predictions, which read 3/4 as much
# from the level 2 cache, all but the gradient of the scores spill 140 to 430 bytes of registers.
_CANDIDATES: Mapping[str, tuple[Tiles, ...]] = {
    "scores": (
        Tiles(256, 0, 64, 8, 3),
        Tiles(128, 0, 64, 8, 4),
        Tiles(128, 0, 128, 8, 2),
        Tiles(128, 0, 32, 8, 4),
        Tiles(64, 0, 64, 4, 4, resident=2),
        Tiles(32, 0, 64, 4, 3, resident=3),
    ),
    "score_gradient": (
        Tiles(256, 0, 64, 8, 3),
        Tiles(256, 0, 64, 8, 4),
        Tiles(256, 0, 32, 8, 3),
        Tiles(128, 0, 64, 8, 4),
        Tiles(128, 0, 128, 8, 2),
        Tiles(128, 0, 64, 4, 3, resident=2),
        Tiles(32, 0, 64, 4, 3, resident=4),
    ),
    "hidden_gradient": (
        Tiles(256, 64, 128, 8, 3),
        Tiles(128, 64, 128, 8, 4),
        Tiles(128, 128, 128, 8, 2),
        Tiles(64, 64, 128, 4, 3, resident=2),
    ),
    "weight_gradient": (
        Tiles(64, 128, 256, 8, 4),
        Tiles(64, 128, 256, 8, 2),
        Tiles(32, 128, 256, 8, 4),
        Tiles(64, 128, 128, 8, 4, resident=2),
        Tiles(64, 128, 128, 4, 3, resident=2),
    ),
    "one_pass": (
        Tiles(64, 0, 256, 8, 2),
        Tiles(64, 0, 64, 4, 3, resident=2),
        Tiles(32, 0, 128, 8, 4),
        Tiles(32, 0, 128, 4, 4, resident=2),
        Tiles(32, 0, 64, 4, 4, resident=2),
    ),
}
_FLOAT32_CANDIDATES: Mapping[str, tuple[Tiles, ...]] = {
    "scores": (Tiles(64, 0, 32, 8, 3), Tiles(64, 0, 16, 4, 3), Tiles(128, 0, 32, 8, 3)),
    "score_gradient": (Tiles(64, 0, 32, 8, 3), Tiles(64, 0, 16, 4, 3), Tiles(128, 0, 32, 8, 3)),
    "hidden_gradient": (Tiles(64, 32, 64, 8, 3), Tiles(64, 16, 64, 4, 3), Tiles(64, 32, 128, 8, 3)),
    "weight_gradient": (Tiles(32, 64, 64, 8, 3), Tiles(16, 64, 64, 4, 3), Tiles(32, 64, 128, 8, 3)),
    "one_pass": (Tiles(16, 0, 64, 4, 1), Tiles(32, 0, 32, 4, 1), Tiles(32, 0, 64, 8, 1)),
}
_INTERPRETED_CANDIDATES = {part: (Tiles(32, 0, 32, 1, 1),) for part in _CANDIDATES}
_logger = logging.getLogger("seqmlm_kernels")


@dataclass(frozen=True)
class ProjectionWorkload:
    """The made-up batch: every second of its tokens is predicted, every id is allowed."""

    predictions: int
    vocabulary: int
    hidden_size: int


STANDARD_WORKLOADS: Mapping[Regime, ProjectionWorkload] = {
    "one_pass": ProjectionWorkload(16_384, 33, 1280),
    "one_tile": ProjectionWorkload(16_384, 256, 768),
    "materialised": ProjectionWorkload(1280, 50_368, 768),
    "recomputed": ProjectionWorkload(8192, 50_368, 768),
}
if INTERPRETED:
    STANDARD_WORKLOADS = {
        regime: ProjectionWorkload(4, min(standard.vocabulary, 65), 16)
        for regime, standard in STANDARD_WORKLOADS.items()
    }


def candidates(key: TilesKey, part: str, best: ProjectionTiles) -> tuple[ProjectionTiles, ...]:
    """``best`` first, then with other tiles of one of its kernels."""
    given = _FLOAT32_CANDIDATES if key.dtype == torch.float32 else _CANDIDATES
    if key.architecture == "interpreter":
        given = _INTERPRETED_CANDIDATES
    unit = getattr(best, part).vocabulary
    changed = (replace(tiles, vocabulary=tiles.vocabulary or unit) for tiles in given[part])
    fitting = (tiles for tiles in changed if best.scores.vocabulary % max(tiles.vocabulary, 1) == 0)
    return (best, *(replace(best, **{part: tiles}) for tiles in fitting))


def tune_tiles(
    key: TilesKey, device: torch.device, *, workload: ProjectionWorkload | None = None
) -> dict[str, list[Measured[ProjectionTiles]]]:
    """Tune one kernel after the other, the best tiles of those before it in place, and keep them.

    Args:
        key: what to tune.
        device: where.
        workload: on which the candidates run; that of `STANDARD_WORKLOADS` when None.

    Returns:
        Every candidate by the kernel that it changes, fastest first.
    """
    best = tiles_of(key.architecture, key.dtype)
    found = {}
    for part in PARTS[key.regime]:
        found[part] = measure_part(key, device, part, best, workload=workload)
        best = found[part][0].launch
    path = keep_launch(key, device, best)
    _logger.info("tuned %s: %s, kept in %s", key, best, path)
    return found


def measure_part(
    key: TilesKey,
    device: torch.device,
    part: str,
    best: ProjectionTiles,
    *,
    workload: ProjectionWorkload | None = None,
    rounds: int = ROUNDS,
) -> list[Measured[ProjectionTiles]]:
    """Time the candidates for one kernel, fastest first, within the whole pass that it is of.

    Args:
        best: tiles of the other kernels.
        workload: as in `tune_tiles`.
        rounds: runs of each candidate that are timed.
    """
    workload = STANDARD_WORKLOADS[key.regime] if workload is None else workload
    make_plan = functools.partial(_plan, key, device, workload)
    # Some differ in nothing once they are cut to a small vocabulary.
    launches: dict[ProjectionPlan, ProjectionTiles] = {}
    for tiles in candidates(key, part, best):
        launches.setdefault(make_plan(tiles), tiles)
    with on_device(device), torch.no_grad():
        run = _runs(key, device, part, workload, make_plan(best))
        return measured(
            lambda tiles: run(make_plan(tiles)), list(launches.values()), device, rounds=rounds
        )


def _plan(
    key: TilesKey, device: torch.device, workload: ProjectionWorkload, tiles: ProjectionTiles
) -> ProjectionPlan:
    return plan_projection(
        workload.predictions,
        workload.vocabulary,
        workload.hidden_size,
        dtype=key.dtype,
        architecture=key.architecture,
        multiprocessors=multiprocessors_of(device),
        tiles=tiles,
    )


def _runs(
    key: TilesKey,
    device: torch.device,
    part: str,
    workload: ProjectionWorkload,
    plan: ProjectionPlan,
) -> Callable[[ProjectionPlan], tuple[Tensor, ...]]:
    """The forward for "scores", else the backward, on one batch, as a function of its plan."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    count, vocabulary = workload.predictions, workload.vocabulary
    hidden_size = workload.hidden_size
    hidden = normal(2 * count, hidden_size).to(key.dtype)
    weight = (normal(vocabulary, hidden_size) / hidden_size**0.5).to(key.dtype)
    rows = torch.arange(0, 2 * count, 2, dtype=torch.int32, device=device)
    targets = torch.randint(0, vocabulary, (count,), generator=generator, device=device)
    projection = Projection(hidden, weight, None, rows, None, None)
    scores = None
    if key.regime != "recomputed":
        scores = hidden.new_empty((count, score_stride(vocabulary)), dtype=torch.float32)
    rejected = torch.zeros(1, dtype=torch.int64, device=device)
    if part == "scores":
        return lambda plan: forward(plan, projection, targets, rejected, scores)
    _, log_normaliser = forward(plan, projection, targets, rejected, scores)
    ones = torch.ones_like(log_normaliser)
    upstream = Upstream(targets, log_normaliser, scores, ones, ones)
    return lambda plan: _gradients(plan, projection, upstream)


def _gradients(
    plan: ProjectionPlan, projection: Projection, upstream: Upstream
) -> tuple[Tensor, ...]:
    found = backward(plan, projection, upstream, Needs(hidden=True, weight=True, bias=False))
    return tuple(x for x in (found.hidden, found.weight) if x is not None)
