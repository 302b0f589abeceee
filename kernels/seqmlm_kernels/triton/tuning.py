"""Which launch of an attention kernel is fastest on a device: every candidate is run and timed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
from seqmlm_kernels.triton.measuring import Measured, measured
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
        (64, 64, 8, 2), (64, 32, 4, 3), (128, 32, 4, 2), (64, 128, 4, 1), (64, 128, 4, 2),
        (64, 128, 8, 1), (64, 128, 8, 2),
    ),
    "backward_atomic": (
        (128, 64, 8, 2), (128, 64, 8, 1), (128, 32, 8, 2), (128, 32, 4, 2), (64, 64, 4, 2),
        (64, 64, 8, 2), (64, 32, 4, 3), (64, 128, 8, 2),
    ),
}  # fmt: skip
_SMALL_CANDIDATES = ((32, 16, 4, 1), (32, 32, 4, 1), (32, 32, 8, 1), (64, 32, 4, 1), (64, 32, 8, 1))
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
) -> list[Measured[AttentionLaunch]]:
    """Time every candidate, keep the fastest for this machine, and return all, fastest first.

    Args:
        key: what to tune.
        device: where. Its memory must hold a dozen tensors of ``workload``.
        launches: candidates, as `measured` takes them; those of `candidates` when None.
        workload: on which they run.
    """
    with on_device(device), torch.no_grad():
        runs = _runs(key, device, workload)
        found = measured(runs, candidates(key) if launches is None else launches, device)
    path = keep_launch(key, device, found[0].launch)
    _logger.info("tuned %s: %s, kept in %s", key, found[0].launch, path)
    return found


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
