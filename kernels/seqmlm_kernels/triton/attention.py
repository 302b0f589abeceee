"""Attention: what is launched, the launches, and the operators that torch sees."""

# T tokens, H query heads, Hkv key-value heads, D head dimension

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from seqmlm_kernels.dispatch import BackendUnavailableError
from seqmlm_kernels.triton.attention_backward_keys import attention_backward_keys_kernel
from seqmlm_kernels.triton.attention_backward_queries import attention_backward_queries_kernel
from seqmlm_kernels.triton.attention_forward import attention_forward_kernel
from seqmlm_kernels.triton.launch import (
    AttentionLaunch,
    InputPrecision,
    architecture_of,
    attention_launch,
    input_precision_of,
    must_upcast,
)
from seqmlm_kernels.triton.tiles import SIZES, TileTable, tile_table
from seqmlm_kernels.visibility import Visibility

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
LARGEST_HEAD_DIM = 256
_LOG2_E = math.log2(math.e)
_LARGEST_INT32 = 2**31 - 1


@dataclass(frozen=True)
class AttentionPlan:
    """Every decision about the launches of one call.

    Args:
        padded_head_dim: power of two that the tiles have for the head dimension.
        query_sign: factor of the queries, so that the scale that kernels get is positive.
        scale: positive factor of the dot products.
        upcast: whether operands are cast to fp32 after loading.
        forward, backward_queries, backward_keys: the launches.
    """

    padded_head_dim: int
    heads_per_kv_head: int
    has_visibility: bool
    has_window: bool
    query_sign: float
    scale: float
    upcast: bool
    input_precision: InputPrecision
    forward: AttentionLaunch
    backward_queries: AttentionLaunch
    backward_keys: AttentionLaunch


def plan_attention(
    q: Tensor,
    k: Tensor,
    *,
    max_seqlen: int,
    visibility: Visibility | None,
    window: int | None,
    scale: float,
) -> AttentionPlan:
    """Decide how attention of ``q`` over ``k`` is launched.

    Raises:
        BackendUnavailableError: the kernels do not have this dtype or head dimension.
    """
    head_dim = q.shape[2]
    if q.dtype not in DTYPES or not 1 <= head_dim <= LARGEST_HEAD_DIM:
        raise BackendUnavailableError(
            f"backend='triton' cannot run attention on {q.dtype} with head_dim {head_dim}: its "
            "kernels have float16, bfloat16 and float32 and head dimensions from 1 to "
            f"{LARGEST_HEAD_DIM}. Pass backend='torch'."
        )
    padded_head_dim = max(16, triton.next_power_of_2(head_dim))
    launches = {
        kind: attention_launch(
            kind,
            architecture=architecture_of(q.device),
            padded_head_dim=padded_head_dim,
            dtype=q.dtype,
            max_seqlen=max_seqlen,
        )
        for kind in ("forward", "backward_queries", "backward_keys")
    }
    return AttentionPlan(
        padded_head_dim=padded_head_dim,
        heads_per_kv_head=q.shape[1] // k.shape[1],
        has_visibility=visibility is not None,
        has_window=window is not None,
        query_sign=float((scale > 0) - (scale < 0)),
        scale=abs(scale) or 1.0,
        upcast=must_upcast(q.dtype),
        input_precision=input_precision_of(q.dtype),
        **launches,
    )


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    cu_seqlens: Tensor,
    max_seqlen: int,
    visibility: Visibility | None,
    positions: Tensor | None,
    window: int | None,
    scale: float,
) -> Tensor:
    """Three kernels over a tile list; see the modules of the kernels.

    Positions must fit in int32. fp32 products are exact unless
    ``torch.set_float32_matmul_precision`` allows TF32.
    """
    step, reach, group = (
        (None, None, None)
        if visibility is None
        else (visibility.step, visibility.reach, visibility.group)
    )
    output, _ = attention_forward(
        q,
        k,
        v,
        cu_seqlens,
        step,
        reach,
        group,
        positions,
        window,
        max_seqlen,
        scale,
    )
    return output


_LAYOUT = (
    "Tensor cu_seqlens, Tensor? step, Tensor? reach, Tensor? group, Tensor? positions, "
    "int? window, SymInt max_seqlen, float scale"
)


@torch.library.custom_op(
    "seqmlm_kernels::attention_forward",
    mutates_args=(),
    schema=f"(Tensor q, Tensor k, Tensor v, {_LAYOUT}) -> (Tensor, Tensor)",
)
def attention_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    step: Tensor | None,
    reach: Tensor | None,
    group: Tensor | None,
    positions: Tensor | None,
    window: int | None,
    max_seqlen: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Output [T, H, D], and log-sum-exp of the scores [H, T] fp32 in nats."""
    batch = _Batch.of(q, k, cu_seqlens, step, reach, group, positions, window, max_seqlen, scale)
    plan, launch = batch.plan, batch.plan.forward
    q, k, v = _ready(q * plan.query_sign if plan.query_sign != 1.0 else q), _ready(k), _ready(v)
    output = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    log_sum = torch.empty((q.shape[1], q.shape[0]), dtype=torch.float32, device=q.device)
    attention_forward_kernel[batch.num_programs(launch, q.shape[1])](
        q,
        k,
        v,
        output,
        log_sum,
        *batch.tables(launch),
        *_strides(q, k, v),
        *batch.sizes(launch),
        plan.scale * _LOG2_E,
        HEADS=q.shape[1],
        **batch.constants(launch),
    )
    return output, log_sum


@torch.library.custom_op(
    "seqmlm_kernels::attention_backward",
    mutates_args=(),
    schema="(Tensor output_gradient, Tensor q, Tensor k, Tensor v, Tensor output, "
    f"Tensor log_sum, {_LAYOUT}) -> (Tensor, Tensor, Tensor)",
)
def attention_backward(
    output_gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    log_sum: Tensor,
    cu_seqlens: Tensor,
    step: Tensor | None,
    reach: Tensor | None,
    group: Tensor | None,
    positions: Tensor | None,
    window: int | None,
    max_seqlen: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q [T, H, D], k and v [T, Hkv, D]."""
    batch = _Batch.of(q, k, cu_seqlens, step, reach, group, positions, window, max_seqlen, scale)
    plan = batch.plan
    q, k, v = _ready(q * plan.query_sign if plan.query_sign != 1.0 else q), _ready(k), _ready(v)
    output_gradient, output = _ready(output_gradient), output.contiguous()
    q_gradient = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    k_gradient = torch.empty(k.shape, dtype=q.dtype, device=q.device)
    v_gradient = torch.empty(k.shape, dtype=q.dtype, device=q.device)
    delta = torch.empty_like(log_sum)
    launch = plan.backward_queries
    attention_backward_queries_kernel[batch.num_programs(launch, q.shape[1])](
        q,
        k,
        v,
        output,
        output_gradient,
        log_sum,
        delta,
        q_gradient,
        *batch.tables(launch),
        *_strides(q, k, v, output_gradient),
        *batch.sizes(launch),
        plan.scale,
        HEADS=q.shape[1],
        **batch.constants(launch),
    )
    launch = plan.backward_keys
    attention_backward_keys_kernel[batch.num_programs(launch, k.shape[1])](
        q,
        k,
        v,
        output_gradient,
        log_sum,
        delta,
        k_gradient,
        v_gradient,
        *batch.tables(launch),
        *_strides(q, k, v, output_gradient),
        *batch.sizes(launch),
        plan.scale,
        KV_HEADS=k.shape[1],
        **batch.constants(launch),
    )
    if plan.query_sign != 1.0:
        q_gradient = q_gradient * plan.query_sign
    return q_gradient, k_gradient, v_gradient


@attention_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *layout: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)


@attention_backward.register_fake
def _(
    output_gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, *others: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, cu_seqlens, step, reach, group, positions, *ctx.scalars = inputs
    ctx.save_for_backward(q, k, v, *output, cu_seqlens, step, reach, group, positions)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, output_gradient: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    gradients: tuple[Tensor | None, ...] = (None, None, None)
    if output_gradient is not None:
        gradients = attention_backward(output_gradient, *ctx.saved_tensors, *ctx.scalars)
    return (*gradients, *(None,) * 8)


attention_forward.register_autograd(_differentiate, setup_context=_save)


@dataclass(frozen=True, eq=False)
class _Batch:
    """One call without its operands: what is visible, and how it is launched."""

    plan: AttentionPlan
    table: TileTable
    visibility: Visibility | None
    positions: Tensor | None
    window: int
    head_dim: int

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
    ) -> _Batch:
        visibility = None
        if step is not None and reach is not None and group is not None:
            visibility = Visibility(step=step, reach=reach, group=group)
        plan = plan_attention(
            q, k, max_seqlen=max_seqlen, visibility=visibility, window=window, scale=scale
        )
        table = tile_table(cu_seqlens, visibility, positions, tokens=len(q))
        if window is None:
            return cls(plan, table, visibility, None, 0, q.shape[2])
        where = table.positions(positions)
        return cls(plan, table, visibility, where, min(window, _LARGEST_INT32), q.shape[2])

    def num_programs(self, launch: AttentionLaunch, heads: int) -> tuple[int]:
        return (self.table.capacity(launch.outer) * heads,)

    def tables(self, launch: AttentionLaunch) -> tuple[Tensor, ...]:
        """Pointers from tiles_ptr to position_ptr; those that are not read point to the tiles."""
        tiles = self.table.tile_list(launch.outer)
        summaries = (tiles, tiles)
        if self.visibility is not None or self.positions is not None:
            summaries = (self._summary(launch.outer), self._summary(launch.inner))
        fields = (tiles, tiles, tiles)
        if self.visibility is not None:
            visibility = self.visibility
            fields = (
                visibility.step.contiguous(),
                visibility.reach.contiguous(),
                visibility.group.contiguous(),
            )
        return tiles, *summaries, *fields, tiles if self.positions is None else self.positions

    def sizes(self, launch: AttentionLaunch) -> tuple[int, ...]:
        """Integers from tokens to window."""
        capacities = (self.table.capacity(launch.outer), self.table.capacity(launch.inner))
        return (self.table.tokens, *capacities, self.window)

    def constants(self, launch: AttentionLaunch) -> dict[str, Any]:
        """Constexprs and options that all kernels take."""
        plan = self.plan
        return {
            "HEADS_PER_KV_HEAD": plan.heads_per_kv_head,
            "HEAD_DIM": self.head_dim,
            "PADDED": plan.padded_head_dim,
            "OUTER": launch.outer,
            "INNER": launch.inner,
            "OUTER_COLUMN": 4 + SIZES.index(launch.outer),
            "INNER_COLUMN": 4 + SIZES.index(launch.inner),
            "HAS_VISIBILITY": plan.has_visibility,
            "HAS_WINDOW": plan.has_window,
            "UPCAST": plan.upcast,
            "INPUT_PRECISION": plan.input_precision,
            "num_warps": launch.num_warps,
            "num_stages": launch.num_stages,
        }

    def _summary(self, size: int) -> Tensor:
        return self.table.summary(size, self.visibility, self.positions)


def _ready(x: Tensor) -> Tensor:
    """Kernels step along the head dimension by one element; other strides are as they come."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _strides(*operands: Tensor) -> tuple[int, ...]:
    """Strides of a token and of a head, of each operand."""
    return tuple(stride for operand in operands for stride in operand.stride()[:2])
