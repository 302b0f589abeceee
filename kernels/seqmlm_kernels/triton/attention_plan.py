"""Every decision about the launches of one call of attention, before anything is launched."""

# T tokens, H query heads, Hkv key-value heads, D head dimension

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

import torch
import triton

from seqmlm_kernels.dispatch import (
    TRITON_DTYPES,
    TRITON_LARGEST_HEAD_DIM,
    BackendUnavailableError,
)
from seqmlm_kernels.triton.launch import (
    AttentionLaunch,
    InputPrecision,
    Kind,
    LaunchKey,
    architecture_of,
    launches_by_length,
    table_launch,
)
from seqmlm_kernels.triton.tuned_launches import is_tuning_enabled, tuned_launch

ChooseLaunch = Callable[[LaunchKey, torch.device], AttentionLaunch]


@dataclass(frozen=True)
class AttentionPlan:
    """Every decision about the kernels of one call that lengths of sequences have no part in.

    Args:
        device: where they run.
        padded_head_dim: power of two that the tiles have for the head dimension.
        query_sign: factor of the queries, so that the scale that kernels get is positive.
        scale: positive factor of the dot products.
        upcast: whether operands are cast to fp32 after loading.
        keys: what the launches of each kind of kernel depend on.
    """

    device: torch.device
    padded_head_dim: int
    heads_per_kv_head: int
    has_visibility: bool
    has_window: bool
    query_sign: float
    scale: float
    upcast: bool
    input_precision: InputPrecision
    keys: Mapping[Kind, LaunchKey]

    def launches(
        self,
        kind: Kind,
        *,
        max_seqlen: int,
        num_sequences: int,
        tokens: int,
        choose: ChooseLaunch | None = None,
    ) -> tuple[AttentionLaunch, ...]:
        """The launches of a kind of kernel, each sequence in one of them.

        Args:
            choose: gives the launch for sequences of any length; `launch_of` when None.
        """
        key = self.keys[kind]
        return launches_by_length(
            key,
            (choose or launch_of)(key, self.device),
            max_seqlen=max_seqlen,
            num_sequences=num_sequences,
            tokens=tokens,
        )


@functools.lru_cache(maxsize=256)
def plan_attention(
    *,
    device: torch.device,
    dtype: torch.dtype,
    heads: int,
    kv_heads: int,
    head_dim: int,
    has_visibility: bool,
    has_window: bool,
    scale: float,
    upcast: bool,
    input_precision: InputPrecision,
) -> AttentionPlan:
    """Decide how attention is launched, once for all calls of one kind.

    Args:
        upcast: what `must_upcast` says of ``dtype``.
        input_precision: what `input_precision_of` says of it now.

    Raises:
        BackendUnavailableError: the kernels do not have this dtype or head dimension.
    """
    if dtype not in TRITON_DTYPES or not 1 <= head_dim <= TRITON_LARGEST_HEAD_DIM:
        raise BackendUnavailableError(
            f"backend='triton' cannot run attention on {dtype} with head_dim {head_dim}: its "
            "kernels have float16, bfloat16 and float32 and head dimensions from 1 to "
            f"{TRITON_LARGEST_HEAD_DIM}. Pass backend='torch'."
        )
    padded_head_dim = max(16, triton.next_power_of_2(head_dim))
    key_of = functools.partial(
        LaunchKey.of,
        architecture=architecture_of(device),
        padded_head_dim=padded_head_dim,
        dtype=dtype,
        is_restricted=has_visibility or has_window,
        input_precision=input_precision,
    )
    return AttentionPlan(
        device=device,
        padded_head_dim=padded_head_dim,
        heads_per_kv_head=heads // kv_heads,
        has_visibility=has_visibility,
        has_window=has_window,
        query_sign=float((scale > 0) - (scale < 0)),
        scale=abs(scale) or 1.0,
        upcast=upcast,
        input_precision=input_precision,
        keys={kind: key_of(kind) for kind in get_args(Kind)},
    )


def launch_of(key: LaunchKey, device: torch.device) -> AttentionLaunch:
    """Tiles for sequences of any length, tuned for the device if the environment asks for it."""
    if is_tuning_enabled():
        return tuned_launch(key, device) or table_launch(key)
    return table_launch(key)
