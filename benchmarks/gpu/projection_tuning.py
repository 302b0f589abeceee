"""Candidate tiles of the kernels over a vocabulary, timed in every regime, and the fastest kept.

Rows of the table "tuned launches" can be pasted into ``_TILES`` of
``seqmlm_kernels/triton/projection_tiles.py``, which has one for all regimes. Their gain is that of
the whole forward, for "scores", or of the whole backward.
"""

from __future__ import annotations

from functools import partial
from typing import get_args

import torch

from benchmarks.gpu.session import Session
from seqmlm_kernels.triton.launch import INTERPRETED, architecture_of, input_precision_of
from seqmlm_kernels.triton.projection_tiles import Regime, TilesKey, tiles_of
from seqmlm_kernels.triton.projection_tuning import PARTS, measure_part, tune_tiles

REGIMES: tuple[Regime, ...] = get_args(Regime)


def run(session: Session) -> None:
    """Tune every regime, or compile this process's share of the candidates."""
    if session.is_warm_up:
        pieces = [(key, part) for key in keys(session) for part in PARTS[key.regime]]
        for key, part in session.mine(pieces):
            session.attempt(f"tuning {part} of {key}", partial(compile_part, session, key, part))
        return
    for key in keys(session):
        session.attempt(f"tuning {key}", partial(tune_regime, session, key))


def keys(session: Session) -> list[TilesKey]:
    """What is tuned."""
    dtype = torch.bfloat16
    return [
        TilesKey.of(
            regime,
            architecture="interpreter" if INTERPRETED else architecture_of(session.device),
            dtype=dtype,
            input_precision=input_precision_of(dtype),
        )
        for regime in REGIMES
    ]


def compile_part(session: Session, key: TilesKey, part: str) -> None:
    """Run the candidates for one kernel, which fills the compiler's cache."""
    table = tiles_of(key.architecture, key.dtype)
    measure_part(key, session.device, part, table, rounds=1)


def tune_regime(session: Session, key: TilesKey) -> None:
    """Record every candidate of one regime, and the fastest for each of its kernels."""
    before = tiles_of(key.architecture, key.dtype)
    for part, measured in tune_tiles(key, session.device).items():
        for one in measured:
            tiles = vars(getattr(one.launch, part))
            session.record("candidates", key=f"{key}-{part}", **tiles, median_ms=one.median_ms,
                           reason=one.reason)  # fmt: skip
        before_ms = next(one.median_ms for one in measured if one.launch == before)
        best, best_ms = measured[0].launch, measured[0].median_ms
        session.record(
            "tuned launches",
            row=f"{key.architecture!r}, {key.regime}: {part}={getattr(best, part)!r},",
            speed_up=None if before_ms is None or best_ms is None else before_ms / best_ms,
        )
        before = best
