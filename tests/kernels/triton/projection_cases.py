"""Random projections onto a vocabulary, for the tests of several modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmlm_kernels.allowed import AllowedSets

REGIMES = ["one tile", "materialised", "recomputed", "in parts"]
# Bytes and predictions of one part of the backward, small enough that these tests have several.
SLAB_BYTES = 64 * 16 * 2
CHUNK_PREDICTIONS = 16

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    predictions: int
    vocabulary: int
    hidden_size: int
    sets: int | None  # None: every id is allowed
    has_bias: bool
    seed: int = 0
    tokens: int = 7
    index_dtype: torch.dtype = torch.int32


@dataclass(frozen=True, eq=False)
class Operands:
    """Arguments of one call; hidden, weight and bias of the dtype under test."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    rows: Tensor
    targets: Tensor
    allowed: AllowedSets | None


def operands_of(case: Case, dtype: torch.dtype = torch.float32) -> Operands:
    """Random operands; several predictions of one row, and now and then an empty set."""
    generator = torch.Generator().manual_seed(case.seed)
    hidden = torch.randn(case.tokens, case.hidden_size, generator=generator)
    weight = torch.randn(case.vocabulary, case.hidden_size, generator=generator)
    bias = torch.randn(case.vocabulary, generator=generator)

    def draw(high: int) -> Tensor:
        drawn = torch.randint(0, high, (case.predictions,), generator=generator)
        return drawn.to(case.index_dtype)

    rows, targets, allowed = draw(case.tokens), draw(case.vocabulary), None
    if case.sets is not None:
        members = torch.rand(case.sets, case.vocabulary, generator=generator) < 0.3
        # Whole tiles of 32 ids that no set allows.
        members[:, 32:64] = False
        index = draw(case.sets) if case.sets > 1 else None
        which = torch.zeros(case.predictions, dtype=torch.int64) if index is None else index
        has_set = torch.rand(case.predictions, generator=generator) < 0.9
        members[which[has_set].long(), targets[has_set].long()] = True
        allowed = AllowedSets(packed(members), index)
    return Operands(
        hidden.to(dtype),
        weight.to(dtype),
        bias.to(dtype) if case.has_bias else None,
        rows,
        targets,
        allowed,
    )


def packed(members: Tensor) -> Tensor:
    """Bitsets [R, ceil(V / 32)] of [R, V] bool."""
    width = -(-members.shape[1] // 32) * 32
    bits = torch.nn.functional.pad(members, (0, width - members.shape[1])).view(
        len(members), -1, 32
    )
    words = (bits.long() << torch.arange(32)).sum(-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def loss_and_gradients(
    cross_entropy: Callable[..., tuple[Tensor, Tensor]], operands: Operands, dtype: torch.dtype
) -> list[Tensor]:
    """Loss, normaliser and gradients of a sum in which every prediction has its own weights."""
    leaves = [
        None if x is None else x.to(dtype, copy=True).requires_grad_()
        for x in (operands.hidden, operands.weight, operands.bias)
    ]
    loss, log_normaliser = cross_entropy(*leaves, operands.rows, operands.targets, operands.allowed)
    factors = torch.linspace(0.5, 2.0, len(loss), dtype=loss.dtype)
    # Where nothing is allowed the normaliser, and what comes from above, is infinite.
    squares = torch.where(log_normaliser.isfinite(), log_normaliser, 0.0).square()
    torch.autograd.backward(((loss * factors) + squares * factors.flip(0)).sum())
    gradients = [x.grad for x in leaves if x is not None and x.grad is not None]
    return [loss.detach(), log_normaliser.detach(), *gradients]


def cross_entropy(*arguments: Any) -> tuple[Tensor, Tensor]:
    from seqmlm_kernels.triton import projection

    return projection.masked_cross_entropy(*arguments)


def force_regime(monkeypatch: pytest.MonkeyPatch, regime: str) -> None:
    """Make small calls run as large ones do."""
    from seqmlm_kernels.triton import projection_plan

    if regime != "one tile":
        monkeypatch.setattr(projection_plan, "ONE_TILE_VOCABULARY", 0)
    if regime in ("recomputed", "in parts"):
        monkeypatch.setattr(projection_plan, "MATERIALISED_BYTES", 0)
    if regime == "in parts":
        monkeypatch.setattr(projection_plan, "SLAB_BYTES", SLAB_BYTES)
        monkeypatch.setattr(projection_plan, "CHUNK_PREDICTIONS", CHUNK_PREDICTIONS)
