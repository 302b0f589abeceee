"""Every decision about the launches of one call of attention, before anything is launched."""

# T tokens, H query heads, Hkv key-value heads, D head dimension

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from seqmlm_kernels.dispatch import (
    TRITON_DTYPES,
    TRITON_LARGEST_HEAD_DIM,
    AttentionBackward,
    BackendUnavailableError,
)
from seqmlm_kernels.triton.launch import (
    AttentionLaunch,
    InputPrecision,
    Kind,
    LaunchKey,
    architecture_of,
    input_precision_of,
    launches_by_length,
    must_upcast,
    table_launch,
)
from seqmlm_kernels.triton.tuned_launches import is_tuning_enabled, tuned_launch
from seqmlm_kernels.visibility import Visibility

ChooseLaunch = Callable[[LaunchKey, torch.device], AttentionLaunch]


@dataclass(frozen=True)
class AttentionPlan:
    """Every decision about the launches of one call.

    Args:
        padded_head_dim: power of two that the tiles have for the head dimension.
        query_sign: factor of the queries, so that the scale that kernels get is positive.
        scale: positive factor of the dot products.
        upcast: whether operands are cast to fp32 after loading.
        forward, backward_queries, backward_keys: the launches, each sequence in one of them;
            of the queries none where the kernel of the keys adds their gradient atomically.
    """

    padded_head_dim: int
    heads_per_kv_head: int
    has_visibility: bool
    has_window: bool
    query_sign: float
    scale: float
    upcast: bool
    input_precision: InputPrecision
    forward: tuple[AttentionLaunch, ...]
    backward_queries: tuple[AttentionLaunch, ...]
    backward_keys: tuple[AttentionLaunch, ...]


def plan_attention(
    q: Tensor,
    k: Tensor,
    *,
    num_sequences: int,
    max_seqlen: int,
    visibility: Visibility | None,
    window: int | None,
    scale: float,
    backward: AttentionBackward,
    choose: ChooseLaunch | None = None,
) -> AttentionPlan:
    """Decide how attention of ``q`` over ``k`` is launched.

    Args:
        choose: gives the launch for sequences of any length; `launch_of` when None.

    Raises:
        BackendUnavailableError: the kernels do not have this dtype or head dimension.
    """
    head_dim = q.shape[2]
    if q.dtype not in TRITON_DTYPES or not 1 <= head_dim <= TRITON_LARGEST_HEAD_DIM:
        raise BackendUnavailableError(
            f"backend='triton' cannot run attention on {q.dtype} with head_dim {head_dim}: its "
            "kernels have float16, bfloat16 and float32 and head dimensions from 1 to "
            f"{TRITON_LARGEST_HEAD_DIM}. Pass backend='torch'."
        )
    padded_head_dim = max(16, triton.next_power_of_2(head_dim))

    def launches(kind: Kind) -> tuple[AttentionLaunch, ...]:
        key = LaunchKey.of(
            kind,
            architecture=architecture_of(q.device),
            padded_head_dim=padded_head_dim,
            dtype=q.dtype,
            is_restricted=visibility is not None or window is not None,
        )
        return launches_by_length(
            key,
            (choose or launch_of)(key, q.device),
            max_seqlen=max_seqlen,
            num_sequences=num_sequences,
            tokens=len(q),
        )

    is_atomic = backward == "atomic"
    return AttentionPlan(
        padded_head_dim=padded_head_dim,
        heads_per_kv_head=q.shape[1] // k.shape[1],
        has_visibility=visibility is not None,
        has_window=window is not None,
        query_sign=float((scale > 0) - (scale < 0)),
        scale=abs(scale) or 1.0,
        upcast=must_upcast(q.dtype),
        input_precision=input_precision_of(q.dtype),
        forward=launches("forward"),
        backward_queries=() if is_atomic else launches("backward_queries"),
        backward_keys=launches("backward_atomic" if is_atomic else "backward_keys"),
    )


def launch_of(key: LaunchKey, device: torch.device) -> AttentionLaunch:
    """Tiles for sequences of any length, tuned for the device if the environment asks for it."""
    if is_tuning_enabled():
        return tuned_launch(key, device) or table_launch(key)
    return table_launch(key)
