"""Every candidate launch of the kernels with matrix products, timed; the fastest are printed.

Those of attention are kept as well, for "seqmlm, tuned", and their rows of the table "tuned
launches" can be pasted into ``_MEASURED`` of ``seqmlm_kernels/triton/launch.py``; for the others
see `benchmarks.gpu.projection_tuning`. With ``shard`` a process only compiles its share: the
compiler's cache is then warm for the process that measures.
"""

from __future__ import annotations

from functools import partial
from typing import get_args

import torch

from benchmarks.gpu import projection_tuning
from benchmarks.gpu.session import Session
from seqmlm_kernels.triton.launch import Kind, LaunchKey, architecture_of
from seqmlm_kernels.triton.tuning import Workload, candidates, tune

KINDS: tuple[Kind, ...] = get_args(Kind)


def run(session: Session) -> None:
    """Tune every kind of kernel; of attention for head dimensions 64 and 128."""
    every = keys(session)
    # The atomic backward, which is no default, goes last.
    atomic = [key for key in every if key.kind == "backward_atomic"]
    tune_attention(session, [key for key in every if key not in atomic])
    projection_tuning.run(session)
    tune_attention(session, atomic)


def tune_attention(session: Session, keys: list[LaunchKey]) -> None:
    """Tune this process's share of the keys."""
    for key in session.mine(keys):
        session.attempt(f"tuning {key}", partial(tune_one, session, key))


def keys(session: Session) -> list[LaunchKey]:
    """What is tuned."""
    return [
        LaunchKey.of(
            kind,
            architecture=architecture_of(session.device),
            padded_head_dim=head_dim,
            dtype=torch.float16 if session.is_rehearsal else torch.bfloat16,
            is_restricted=is_restricted,
        )
        for kind in KINDS
        for head_dim in ((64,) if session.is_rehearsal else (64, 128))
        for is_restricted in ((True,) if session.is_rehearsal else (False, True))
    ]


def tune_one(session: Session, key: LaunchKey) -> None:
    """Record every candidate of one key, and the row of the table that the fastest would be."""
    launches = candidates(key)
    if session.is_rehearsal:
        launches, workload = launches[:2], Workload(length=70, sequences=1, heads=1)
    elif session.shard[1] > 1:
        workload = Workload(length=256, sequences=1, heads=1)
    else:
        workload = Workload(length=2048, sequences=8, heads=16)
    measured = tune(key, session.device, launches=launches, workload=workload)
    for one in measured:
        session.record("candidates", key=str(key), **vars(one.launch), median_ms=one.median_ms,
                       reason=one.reason)  # fmt: skip
    table_ms = next(one.median_ms for one in measured if one.launch == launches[0])
    best_ms = measured[0].median_ms
    session.record(
        "tuned launches",
        row=f"{key!r}: {measured[0].launch!r},",
        speed_up=None if table_ms is None or best_ms is None else table_ms / best_ms,
    )
