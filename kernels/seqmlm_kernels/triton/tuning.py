"""Which launch of an attention kernel is fastest on a device: every candidate is run and timed."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from triton.errors import TritonError

from seqmlm_kernels.triton.attention_launches import (
    AttentionBatch,
    Backward,
    Operands,
    launch_backward_atomic,
    launch_backward_keys,
    launch_backward_queries,
    launch_forward,
)
from seqmlm_kernels.triton.launch import (
    INTERPRETED,
    AttentionLaunch,
    LaunchKey,
    on_device,
    table_launch,
)
from seqmlm_kernels.triton.tuned_launches import keep_launch
from seqmlm_kernels.visibility import Visibility

# (outer, inner, num_warps, num_stages) for 16-bit inputs; what does not fit a device is refused by
# its compiler, and what is right for none of the architectures is not here.
_CANDIDATES: dict[str, tuple[tuple[int, int, int, int], ...]] = {
    "forward": (
        (128, 64, 4, 2), (128, 64, 4, 3), (128, 64, 8, 3), (128, 128, 4, 2), (128, 128, 8, 2),
        (128, 128, 8, 3), (64, 64, 4, 3), (64, 128, 4, 2), (128, 32, 4, 4),
    ),
    "backward_queries": (
        (128, 64, 8, 2), (128, 64, 8, 1), (128, 64, 4, 2), (128, 32, 8, 3), (64, 64, 4, 2),
        (64, 64, 4, 3), (64, 128, 4, 2), (128, 128, 8, 1),
    ),
    "backward_keys": (
        (128, 64, 8, 2), (128, 64, 8, 1), (128, 32, 8, 2), (128, 32, 8, 3), (64, 64, 4, 2),
        (64, 64, 8, 2), (64, 32, 4, 3), (128, 32, 4, 2),
    ),
    "backward_atomic": (
        (128, 64, 8, 2), (128, 64, 8, 1), (128, 32, 8, 2), (128, 32, 4, 2), (64, 64, 4, 2),
        (64, 64, 8, 2), (64, 32, 4, 3), (64, 128, 8, 2),
    ),
}  # fmt: skip
_SMALL_CANDIDATES = ((32, 16, 4, 1), (32, 32, 4, 1), (32, 32, 8, 1), (64, 32, 4, 1), (64, 32, 8, 1))
# Of the largest number of a result: how far the results of two launches may lie apart.
_LARGEST_DIFFERENCE = 2e-2
_ROUNDS = 1 if INTERPRETED else 15
_logger = logging.getLogger("seqmlm_kernels")


@dataclass(frozen=True)
class Workload:
    """The made-up batch: equal sequences, causal where a rule is wanted.

    Args:
        length: tokens of a sequence.
        sequences: of the batch.
        heads: of queries, keys and values.
    """

    length: int
    sequences: int
    heads: int


STANDARD_WORKLOAD = Workload(80, 1, 1) if INTERPRETED else Workload(2048, 8, 16)


@dataclass(frozen=True)
class Measured:
    """One candidate: its median time, or why it has none."""

    launch: AttentionLaunch
    median_ms: float | None
    reason: str | None = None


def candidates(key: LaunchKey) -> tuple[AttentionLaunch, ...]:
    """The launch of the table first, then the others."""
    given = _SMALL_CANDIDATES if key.dtype == torch.float32 else _CANDIDATES[key.kind]
    launches = (table_launch(key), *(AttentionLaunch(*candidate) for candidate in given))
    return tuple(dict.fromkeys(launches))


def tune(
    key: LaunchKey,
    device: torch.device,
    *,
    launches: Sequence[AttentionLaunch] | None = None,
    workload: Workload = STANDARD_WORKLOAD,
) -> list[Measured]:
    """Time every candidate, keep the fastest for this machine, and return all, fastest first.

    Args:
        key: what to tune.
        device: where. Its memory must hold a dozen tensors of ``workload``.
        launches: candidates; those of `candidates` when None. The first one must run: results of
            the others are held against its own, and who differs is refused.
        workload: on which they run.
    """
    launches = candidates(key) if launches is None else launches
    with on_device(device), torch.no_grad():
        runs = _runs(key, device, workload)
        expected = runs(launches[0])
        measured = [
            _measure(partial(runs, launch), launch, expected, device) for launch in launches
        ]
    measured.sort(key=lambda one: math.inf if one.median_ms is None else one.median_ms)
    if measured[0].median_ms is None:
        raise RuntimeError(f"No launch of {key} runs: {measured[0].reason}.")
    path = keep_launch(key, device, measured[0].launch)
    _logger.info("tuned %s: %s, kept in %s", key, measured[0].launch, path)
    return measured


def _runs(
    key: LaunchKey, device: torch.device, workload: Workload
) -> Callable[[AttentionLaunch], tuple[Tensor, ...]]:
    """The kernel of ``key`` on one batch, as a function of its launch."""
    generator = torch.Generator(device).manual_seed(0)
    tokens = workload.sequences * workload.length
    shape = (tokens, workload.heads, key.head_dim)
    q, k, v, output_gradient = (
        torch.randn(shape, generator=generator, device=device).to(key.dtype) for _ in range(4)
    )
    cu_seqlens = torch.arange(0, tokens + 1, workload.length, dtype=torch.int32, device=device)
    rule = Visibility.causal(cu_seqlens) if key.is_restricted else None
    # The launches of the table: those of the cache are what is being made.
    batch = AttentionBatch.of(
        q,
        k,
        cu_seqlens,
        None if rule is None else rule.step,
        None if rule is None else rule.reach,
        None if rule is None else rule.group,
        None,
        None,
        workload.length,
        key.head_dim**-0.5,
        choose=lambda key, _: table_launch(key),
    )
    operands = Operands.of(batch.plan, q, k, v)
    if key.kind == "forward":
        return lambda launch: launch_forward(batch, [launch], operands)[:1]
    output, log_sum = launch_forward(batch, batch.launches("forward"), operands)
    backward = Backward.of(output, output_gradient, log_sum)
    if key.kind == "backward_queries":
        return lambda launch: (launch_backward_queries(batch, [launch], operands, backward),)
    if key.kind == "backward_atomic":
        return lambda launch: launch_backward_atomic(batch, [launch], operands, backward)
    launch_backward_queries(batch, batch.launches("backward_queries"), operands, backward)
    return lambda launch: launch_backward_keys(batch, [launch], operands, backward)


def _measure(
    run: Callable[[], tuple[Tensor, ...]],
    launch: AttentionLaunch,
    expected: tuple[Tensor, ...],
    device: torch.device,
) -> Measured:
    try:
        found = run()
    except TritonError as error:  # more registers or shared memory than there are
        return Measured(launch, None, str(error))
    for one, other in zip(found, expected, strict=True):
        difference = float((one.float() - other.float()).abs().max())
        if not difference <= _LARGEST_DIFFERENCE * float(other.abs().max()):
            return Measured(launch, None, f"differs by {difference:.3g} from the table's launch")
    return Measured(launch, statistics.median(_time_ms(run, device) for _ in range(_ROUNDS)))


def _time_ms(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cpu":
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) * 1e3
    events: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    events[0].record()
    run()
    events[1].record()
    torch.cuda.synchronize()
    return float(events[0].elapsed_time(events[1]))
