"""Tiles over a vocabulary are measured where that is asked for, and only once per machine."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from tests.kernels.triton.projection_cases import (
    Case,
    cross_entropy,
    force_regime,
    loss_and_gradients,
    operands_of,
)

CPU = torch.device("cpu")
REGIMES = ("one_pass", "one_tile", "materialised", "recomputed")


def key_of(regime: Any = "recomputed", architecture: str = "interpreter") -> Any:
    from seqmlm_kernels.triton.projection_tiles import TilesKey

    return TilesKey.of(
        regime, architecture=architecture, dtype=torch.bfloat16, input_precision="ieee"
    )


def table(architecture: str = "interpreter") -> Any:
    from seqmlm_kernels.triton.projection_tiles import tiles_of

    return tiles_of(architecture, torch.bfloat16)


def other_tiles() -> Any:
    from seqmlm_kernels.triton.projection_tiles import Tiles

    return replace(table(), score_gradient=Tiles(32, 32, 32, 1, 1))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from seqmlm_kernels.triton import tuned_launches

    monkeypatch.setenv("SEQMLM_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setattr(tuned_launches, "_launches", {})
    return tmp_path


@pytest.fixture
def tuning_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMLM_AUTOTUNE", "1")


def test_regimes_are_those_of_sizes() -> None:
    from seqmlm_kernels.triton.projection_plan import regime_of
    from seqmlm_kernels.triton.projection_tiles import Regime

    assert get_args(Regime) == REGIMES
    sizes = [(9830, 64), (9830, 65), (1332, 50_368), (1333, 50_368)]
    assert tuple(regime_of(*size) for size in sizes) == REGIMES


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100", "gfx942"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("part", ["scores", "score_gradient", "hidden_gradient", "one_pass"])
def test_candidates_differ_in_one_kernel(part: str, dtype: torch.dtype, architecture: str) -> None:
    from seqmlm_kernels.triton.projection_tiles import tiles_of
    from seqmlm_kernels.triton.projection_tuning import candidates

    best = tiles_of(architecture, dtype)
    key = replace(key_of(architecture=architecture), dtype=dtype)
    first, *others = candidates(key, part, best)
    assert first == best
    assert len(others) >= 3
    for tiles in others:
        assert replace(tiles, **{part: getattr(best, part)}) == best
    is_hopper = architecture == "sm_90" and dtype == torch.bfloat16
    if part == "score_gradient" and is_hopper:
        assert (256, 128) in {
            (one.score_gradient.predictions, one.score_gradient.vocabulary) for one in others
        }


@pytest.mark.parametrize("regime", REGIMES)
def test_every_kernel_of_a_regime_is_measured_and_the_fastest_is_kept(
    cache: Path, regime: str
) -> None:
    from seqmlm_kernels.triton.projection_tiles import ProjectionTiles, Tiles
    from seqmlm_kernels.triton.projection_tuning import PARTS, tune_tiles

    found = tune_tiles(key_of(regime), CPU)
    assert tuple(found) == PARTS[key_of(regime).regime]
    before = table()
    for measured in found.values():
        assert {one.reason for one in measured} == {None}
        assert before in {one.launch for one in measured}
        assert len(measured) == 2
        before = measured[0].launch
    (file,) = (path for path in cache.rglob("*") if path.is_file())
    assert file.name == f"{key_of(regime)}.json"
    kept = json.loads(file.read_text())["launch"]
    assert ProjectionTiles(**{part: Tiles(**sizes) for part, sizes in kept.items()}) == before


def test_candidates_that_are_cut_to_the_same_tiles_are_measured_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 33 ids a tile has at most 64 predictions and 4 warps."""
    from seqmlm_kernels.triton import projection_tuning
    from seqmlm_kernels.triton.projection_tiles import Tiles

    same = (Tiles(128, 0, 16, 4, 1), Tiles(64, 0, 16, 8, 1), Tiles(64, 0, 16, 4, 1))
    monkeypatch.setattr(projection_tuning, "_INTERPRETED_CANDIDATES", {"scores": same})
    found = projection_tuning.measure_part(key_of("one_pass"), CPU, "scores", table())
    assert len(found) == 2
    assert {one.launch.scores.predictions for one in found} == {16, 128}


def test_tiles_that_compute_something_else_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from seqmlm_kernels.triton import projection_tuning
    from seqmlm_kernels.triton.projection_forward import forward

    def differs(plan: Any, *arguments: Any) -> tuple[Tensor, ...]:
        loss, log_normaliser = forward(plan, *arguments)
        return loss, log_normaliser * (1.0 if plan.scores.hidden == 16 else 2.0)

    monkeypatch.setattr(projection_tuning, "forward", differs)
    best, refused = projection_tuning.measure_part(key_of(), CPU, "scores", table())
    assert best.launch == table()
    assert refused.median_ms is None
    assert "from the table's launch" in str(refused.reason)


def run(case: Case) -> list[Tensor]:
    return loss_and_gradients(cross_entropy, operands_of(case), torch.float32)


@pytest.mark.usefixtures("tuning_enabled")
def test_first_call_of_each_regime_tunes_it_and_gives_the_same_numbers(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = (Case(3, size, 16, sets=2, has_bias=True) for size in (33, 90))
    run(small)
    force_regime(monkeypatch, "recomputed")
    tuned, again = run(large), run(large)
    names = [path.stem.rpartition("-")[2] for path in cache.rglob("*.json")]
    assert sorted(names) == ["one_pass", "recomputed"]
    assert all(torch.equal(a, b) for a, b in zip(tuned, again, strict=True))
    monkeypatch.setenv("SEQMLM_AUTOTUNE", "0")
    for found, wanted in zip(tuned, run(large), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def planned(monkeypatch: pytest.MonkeyPatch) -> Any:
    from seqmlm_kernels.triton import projection_launch

    force_regime(monkeypatch, "recomputed")
    operands = operands_of(Case(9, 97, 24, sets=None, has_bias=False))
    projection = projection_launch.contiguous_projection(
        operands.hidden.bfloat16(), operands.weight.bfloat16(), None, operands.rows, None, None
    )
    return projection_launch.plan_of(projection)


@pytest.mark.usefixtures("tuning_enabled")
def test_what_was_kept_is_used_by_later_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from seqmlm_kernels.triton import tuned_launches

    tuned_launches.keep_launch(key_of(), CPU, other_tiles())
    tuned_launches._launches.clear()
    assert planned(monkeypatch).score_gradient == other_tiles().score_gradient
    monkeypatch.delattr(tuned_launches, "_path")
    assert planned(monkeypatch).score_gradient == other_tiles().score_gradient
    monkeypatch.setenv("SEQMLM_AUTOTUNE", "0")
    assert planned(monkeypatch).score_gradient == table().score_gradient


@pytest.mark.usefixtures("tuning_enabled")
def test_nothing_is_measured_while_a_cuda_graph_is_captured(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as capture:
        capture.setattr(torch.cuda, "is_available", lambda: True)
        capture.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        assert planned(monkeypatch).score_gradient == table().score_gradient
    assert not list(cache.rglob("*.json"))
    planned(monkeypatch)
    assert len(list(cache.rglob("*.json"))) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Expecting value"),
        ('{"launch": []}', "no attribute 'items'"),
        ('{"launch": {"scores": {"predictions": 16}}}', "missing"),
        (None, "must be that of scores, 32"),
    ],
    ids=["empty", "no tiles", "incomplete", "tiles that cannot be combined"],
)
@pytest.mark.usefixtures("tuning_enabled")
def test_damaged_file_is_named(
    monkeypatch: pytest.MonkeyPatch, content: str | None, reason: str
) -> None:
    from seqmlm_kernels.triton import tuned_launches

    path = tuned_launches.keep_launch(key_of(), CPU, table())
    kept = json.loads(path.read_text())
    kept["launch"]["score_gradient"]["vocabulary"] = 64
    path.write_text(json.dumps(kept) if content is None else content)
    tuned_launches._launches.clear()
    with pytest.raises(ValueError, match=rf"{path}.* holds no launch .*{reason}.*delete it to mea"):
        planned(monkeypatch)


def test_of_launches_that_are_kept_at_once_all_read_the_first(cache: Path) -> None:
    from seqmlm_kernels.triton import tuned_launches

    written = (table(), other_tiles())

    def write(tiles: Any) -> None:
        for _ in range(50):
            tuned_launches.keep_launch(key_of(), CPU, tiles)

    path = tuned_launches.keep_launch(key_of(), CPU, written[0])
    writers = [threading.Thread(target=write, args=(tiles,)) for tiles in written]
    for writer in writers:
        writer.start()
    found = [
        tuned_launches._read(path, str(key_of()), tuned_launches._projection_tiles)
        for _ in range(50)
    ]
    for writer in writers:
        writer.join()
    assert set(found) == {written[0]}
    assert [file for file in cache.rglob("*") if file.is_file()] == [path]


def test_key_names_all_that_tiles_depend_on() -> None:
    from seqmlm_kernels.triton.projection_tiles import TilesKey

    key = TilesKey("3.6", "sm_90", torch.float32, "tf32", "one_tile")
    assert str(key) == "triton-3.6-sm_90-float32-tf32-projection-one_tile"
