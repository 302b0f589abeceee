"""The launches of the attention kernels over one packed batch."""

# T tokens, H query heads, Hkv key-value heads, D head dimension

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqmlm_kernels.triton.attention_backward_keys import attention_backward_keys_kernel
from seqmlm_kernels.triton.attention_backward_queries import attention_backward_queries_kernel
from seqmlm_kernels.triton.attention_delta import attention_delta_kernel
from seqmlm_kernels.triton.attention_forward import attention_forward_kernel
from seqmlm_kernels.triton.attention_plan import AttentionPlan, ChooseLaunch, plan_attention
from seqmlm_kernels.triton.launch import AttentionLaunch, Kind, input_precision_of, must_upcast
from seqmlm_kernels.triton.tile_kernels import SIZES
from seqmlm_kernels.triton.tiles import TileTable, tile_table
from seqmlm_kernels.triton.waves import ceil_div
from seqmlm_kernels.visibility import Visibility

_LOG2_E = math.log2(math.e)
_LARGEST_INT32 = 2**31 - 1
# Tokens of a program of `attention_delta`.
DELTA_ROWS = 32


@dataclass(frozen=True, eq=False)
class Operands:
    """Queries with the sign of the scale, keys and values, as kernels step through them."""

    q: Tensor
    k: Tensor
    v: Tensor

    @classmethod
    def of(cls, plan: AttentionPlan, q: Tensor, k: Tensor, v: Tensor) -> Operands:
        """Copies only what must be copied."""
        q = q * plan.query_sign if plan.query_sign != 1.0 else q
        return cls(_ready(q), _ready(k), _ready(v))


@dataclass(frozen=True, eq=False)
class Backward:
    """What the backward kernels read beside the operands; ``delta`` the first one writes."""

    output: Tensor
    output_gradient: Tensor
    log_sum: Tensor
    delta: Tensor

    @classmethod
    def of(cls, output: Tensor, output_gradient: Tensor, log_sum: Tensor) -> Backward:
        """``delta`` is allocated, and not yet filled."""
        delta = torch.empty_like(log_sum)
        return cls(output.contiguous(), _ready(output_gradient), log_sum, delta)


def launch_forward(
    batch: AttentionBatch, launches: Sequence[AttentionLaunch], operands: Operands
) -> tuple[Tensor, Tensor]:
    """Output [T, H, D], and log2 of the sum of exponentials of the scores [H, T] fp32."""
    q, k, v = operands.q, operands.k, operands.v
    output = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    log_sum = torch.empty((q.shape[1], q.shape[0]), dtype=torch.float32, device=q.device)
    for launch in launches:
        tables = batch.tables(launch, outer_is_queries=True)
        attention_forward_kernel[batch.num_programs(launch, q.shape[1])](
            q,
            k,
            v,
            output,
            log_sum,
            *tables,
            *_strides(q, k, v),
            *batch.sizes(tables),
            batch.plan.scale * _LOG2_E,
            HEADS=q.shape[1],
            **batch.constants(launch),
        )
    return output, log_sum


def launch_backward_queries(
    batch: AttentionBatch,
    launches: Sequence[AttentionLaunch],
    operands: Operands,
    backward: Backward,
) -> Tensor:
    """Gradient of the queries [T, H, D], less the sign of the scale; fills ``backward.delta``."""
    q, k, v = operands.q, operands.k, operands.v
    q_gradient = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    for launch in launches:
        tables = batch.tables(launch, outer_is_queries=True)
        attention_backward_queries_kernel[batch.num_programs(launch, q.shape[1])](
            q,
            k,
            v,
            backward.output,
            backward.output_gradient,
            backward.log_sum,
            backward.delta,
            q_gradient,
            *tables,
            *_strides(q, k, v, backward.output_gradient),
            *batch.sizes(tables),
            batch.plan.scale,
            HEADS=q.shape[1],
            **batch.constants(launch),
        )
    return q_gradient


def launch_backward_atomic(
    batch: AttentionBatch,
    launches: Sequence[AttentionLaunch],
    operands: Operands,
    backward: Backward,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, less the sign of the scale, keys and values; fills ``delta``."""
    q = operands.q
    attention_delta_kernel[(ceil_div(len(q), DELTA_ROWS) * q.shape[1],)](
        backward.output,
        backward.output_gradient,
        backward.delta,
        *_strides(backward.output_gradient),
        len(q),
        HEADS=q.shape[1],
        HEAD_DIM=batch.head_dim,
        PADDED=batch.plan.padded_head_dim,
        ROWS=DELTA_ROWS,
        UPCAST=batch.plan.upcast,
    )
    query_sum = torch.zeros(q.shape, dtype=torch.float32, device=q.device)
    gradients = launch_backward_keys(batch, launches, operands, backward, query_sum=query_sum)
    q_gradient = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    return torch.mul(query_sum, batch.plan.scale, out=q_gradient), *gradients


def launch_backward_keys(
    batch: AttentionBatch,
    launches: Sequence[AttentionLaunch],
    operands: Operands,
    backward: Backward,
    *,
    query_sum: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradients of keys and values [T, Hkv, D]; reads ``backward.delta``.

    Adds the gradients of the queries, less the scale, to ``query_sum`` [T, H, D] fp32 if given.
    """
    q, k, v = operands.q, operands.k, operands.v
    k_gradient = torch.empty(k.shape, dtype=q.dtype, device=q.device)
    v_gradient = torch.empty(k.shape, dtype=q.dtype, device=q.device)
    for launch in launches:
        tables = batch.tables(launch, outer_is_queries=False)
        attention_backward_keys_kernel[batch.num_programs(launch, k.shape[1])](
            q,
            k,
            v,
            backward.output_gradient,
            backward.log_sum,
            backward.delta,
            k_gradient if query_sum is None else query_sum,
            k_gradient,
            v_gradient,
            *tables,
            *_strides(q, k, v, backward.output_gradient),
            *batch.sizes(tables),
            batch.plan.scale,
            ADDS_TO_QUERIES=query_sum is not None,
            KV_HEADS=k.shape[1],
            **batch.constants(launch),
        )
    return k_gradient, v_gradient


@dataclass(frozen=True, eq=False)
class AttentionBatch:
    """One call without its operands: what is visible, and how it is launched."""

    plan: AttentionPlan
    table: TileTable
    visibility: Visibility | None
    positions: Tensor | None
    window: int
    head_dim: int
    max_seqlen: int
    num_sequences: int
    choose: ChooseLaunch | None

    @classmethod
    def of(
        cls,
        q: Tensor,
        k: Tensor,
        cu_seqlens: Tensor,
        step: Tensor | None,
        reach: Tensor | None,
        group: Tensor | None,
        positions: Tensor | None,
        window: int | None,
        max_seqlen: int,
        scale: float,
        *,
        choose: ChooseLaunch | None = None,
    ) -> AttentionBatch:
        """The batch of a call, or, with ``choose``, of one whose launches it names."""
        visibility = visibility_of(step, reach, group)
        tokens, heads, head_dim = q.shape
        plan = plan_attention(
            device=q.device,
            dtype=q.dtype,
            heads=heads,
            kv_heads=k.shape[1],
            head_dim=head_dim,
            has_visibility=visibility is not None,
            has_window=window is not None,
            scale=scale,
            upcast=must_upcast(q.dtype),
            input_precision=input_precision_of(q.dtype),
        )
        table = tile_table(cu_seqlens, visibility, positions, tokens=tokens)
        return cls(
            plan=plan,
            table=table,
            visibility=visibility,
            positions=None if window is None else table.positions(positions),
            window=0 if window is None else min(window, _LARGEST_INT32),
            head_dim=head_dim,
            max_seqlen=max_seqlen,
            num_sequences=cu_seqlens.shape[0] - 1,
            choose=choose,
        )

    def launches(self, kind: Kind) -> tuple[AttentionLaunch, ...]:
        """The launches of a kind of kernel, each sequence in one of them."""
        return self.plan.launches(
            kind,
            max_seqlen=self.max_seqlen,
            num_sequences=self.num_sequences,
            tokens=self.table.tokens,
            choose=self.choose,
        )

    def num_programs(self, launch: AttentionLaunch, heads: int) -> tuple[int]:
        """The grid: every head of every tile."""
        return (self.table.capacity(launch.outer, launch.lengths) * heads,)

    def tables(self, launch: AttentionLaunch, *, outer_is_queries: bool) -> tuple[Tensor, ...]:
        """Pointers from tiles_ptr to position_ptr; those that are not read point to the tiles."""
        visibility, positions = self.visibility, self.positions
        tiles = visits = self.table.tile_list(launch.outer, launch.lengths)
        if visibility is not None or positions is not None:
            visits = self.table.visits(
                launch.outer,
                launch.inner,
                visibility,
                positions,
                window=None if positions is None else self.window,
                max_seqlen=self.max_seqlen,
                outer_is_queries=outer_is_queries,
                lengths=launch.lengths,
            )
        fields = (tiles, tiles, tiles)
        if visibility is not None:
            fields = (
                visibility.step.contiguous(),
                visibility.reach.contiguous(),
                visibility.group.contiguous(),
            )
        return tiles, visits, *fields, tiles if positions is None else positions

    def sizes(self, tables: Sequence[Tensor]) -> tuple[int, ...]:
        """Integers from tokens to window, of what `tables` returned."""
        return (self.table.tokens, tables[1].stride(0), self.window)

    def constants(self, launch: AttentionLaunch) -> dict[str, Any]:
        """Constexprs and options that all kernels take."""
        plan = self.plan
        return {
            "HEADS_PER_KV_HEAD": plan.heads_per_kv_head,
            "HEAD_DIM": self.head_dim,
            "PADDED": plan.padded_head_dim,
            "OUTER": launch.outer,
            "INNER": launch.inner,
            "HAS_VISIBILITY": plan.has_visibility,
            "HAS_WINDOW": plan.has_window,
            "UPCAST": plan.upcast,
            "INPUT_PRECISION": plan.input_precision,
            "num_warps": launch.num_warps,
            "num_stages": launch.num_stages,
        }


def visibility_of(
    step: Tensor | None, reach: Tensor | None, group: Tensor | None
) -> Visibility | None:
    """The visibility whose fields an operator takes."""
    if step is None or reach is None or group is None:
        return None
    return Visibility(step=step, reach=reach, group=group)


def _ready(x: Tensor) -> Tensor:
    """Kernels step along the head dimension by one element; other strides are as they come.

    But for those of a token by which the rows of one tile are 2 ** 31 numbers apart: offsets
    within a tile are int32, because in int64 they spill registers (on sm_90 the forward of head
    dimension 128 needs 48 bytes of stack instead of none).
    """
    steps_by_one = x.stride(-1) == 1 or x.shape[-1] == 1
    last_row = x.stride(0) * (max(SIZES) - 1)
    return x if steps_by_one and last_row <= _LARGEST_INT32 else x.contiguous()


def _strides(*operands: Tensor) -> tuple[int, ...]:
    """Strides of a token and of a head, of each operand."""
    return tuple(stride for operand in operands for stride in operand.stride()[:2])
