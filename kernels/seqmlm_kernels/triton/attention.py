"""Attention as operators that torch knows; the kernels' modules say how it is computed."""

# T tokens, H query heads, Hkv key-value heads, D head dimension

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmlm_kernels.dispatch import AttentionBackward
from seqmlm_kernels.triton import attention_closed_form
from seqmlm_kernels.triton.attention_launches import (
    AttentionBatch,
    Backward,
    Operands,
    launch_backward_atomic,
    launch_backward_keys,
    launch_backward_queries,
    launch_forward,
    visibility_of,
)
from seqmlm_kernels.triton.forward_mode import refuse_tangents
from seqmlm_kernels.triton.launch import INTERPRETED, on_device
from seqmlm_kernels.visibility import Visibility


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
    backward: AttentionBackward,
) -> Tensor:
    """Kernels over a tile list, one forward and two backward, or one; see their modules.

    A ``cu_seqlens`` that falls or passes T, a sequence longer than ``max_seqlen`` where some pairs
    are hidden, and ``positions`` that a window cannot subtract in int32, stop a GPU with a
    device-side assertion that names them. fp32 products are exact unless
    ``torch.set_float32_matmul_precision`` allows TF32.
    """
    refuse_tangents(q=q, k=k, v=v)
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
        backward,
    )
    return output


_LAYOUT = (
    "Tensor cu_seqlens, Tensor? step, Tensor? reach, Tensor? group, Tensor? positions, "
    "int? window, SymInt max_seqlen, float scale, str backward"
)


@torch.library.custom_op(
    "seqmlm_kernels::attention_forward",
    mutates_args=(),
    device_types="cuda",
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
    backward: AttentionBackward,
) -> tuple[Tensor, Tensor]:
    """Output [T, H, D], and log2 of the sum of exponentials of the scores [H, T] fp32."""
    layout = (cu_seqlens, step, reach, group, positions, window, max_seqlen, scale, backward)
    return _launch_forward(q, k, v, *layout)


@torch.library.custom_op(
    "seqmlm_kernels::attention_backward",
    mutates_args=(),
    device_types="cuda",
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
    backward: AttentionBackward,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q [T, H, D], k and v [T, Hkv, D]."""
    layout = (cu_seqlens, step, reach, group, positions, window, max_seqlen, scale, backward)
    return _launch_backward(output_gradient, q, k, v, output, log_sum, *layout)


def _launch_forward(q: Tensor, k: Tensor, v: Tensor, *layout: Any) -> tuple[Tensor, Tensor]:
    with on_device(q.device):
        batch = AttentionBatch.of(q, k, *layout[:-1])
        operands = Operands.of(batch.plan, q, k, v)
        return launch_forward(batch, batch.launches("forward"), operands)


def _launch_backward(
    output_gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    log_sum: Tensor,
    *layout: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    with on_device(q.device):
        batch = AttentionBatch.of(q, k, *layout[:-1])
        operands = Operands.of(batch.plan, q, k, v)
        inputs = Backward.of(output, output_gradient, log_sum)
        if layout[-1] == "atomic":
            launches = batch.launches("backward_atomic")
            dq, dk, dv = launch_backward_atomic(batch, launches, operands, inputs)
        else:
            launches = batch.launches("backward_queries")
            dq = launch_backward_queries(batch, launches, operands, inputs)
            launches = batch.launches("backward_keys")
            dk, dv = launch_backward_keys(batch, launches, operands, inputs)
    if batch.plan.query_sign != 1.0:
        dq = dq * batch.plan.query_sign
    return dq, dk, dv


@attention_forward.register_kernel("cpu")
def _(q: Tensor, k: Tensor, v: Tensor, *layout: Any) -> tuple[Tensor, Tensor]:
    if INTERPRETED:
        return _launch_forward(q, k, v, *layout)
    return attention_closed_form.output_and_log_sum(q, k, v, *_pairs(*layout))


@attention_backward.register_kernel("cpu")
def _(
    output_gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    log_sum: Tensor,
    *layout: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = (output_gradient, q, k, v, output, log_sum)
    if INTERPRETED:
        return _launch_backward(*inputs, *layout)
    return attention_closed_form.gradients(*inputs, *_pairs(*layout))


def _pairs(
    cu_seqlens: Tensor,
    step: Tensor | None,
    reach: Tensor | None,
    group: Tensor | None,
    positions: Tensor | None,
    window: int | None,
    max_seqlen: int,
    scale: float,
    backward: AttentionBackward,
) -> tuple[Tensor, Visibility | None, Tensor | None, int | None, float]:
    """What of a layout decides the result, rather than how it is launched."""
    return cu_seqlens, visibility_of(step, reach, group), positions, window, scale


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
    return (*gradients, *(None,) * 9)


attention_forward.register_autograd(_differentiate, setup_context=_save)
