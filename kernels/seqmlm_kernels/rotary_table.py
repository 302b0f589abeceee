"""Angles of rotary position embeddings, computed once per batch and shared by all layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqmlm_kernels.checks import check_angles


def rotary_table(
    positions: Tensor, head_dim: int, *, base: float = 10000.0, frequencies: Sequence[float] = ()
) -> Tensor:
    """Cosine and sine of ``position * base ** (-2 d / head_dim)`` for each position.

    Compute it once per batch and pass it to `rotary` in every layer.

    Args:
        positions: [T] int32 or int64, position of each token in its sequence.
        head_dim: D, even.
        base: the angle of pair d falls from 1 to 1 / base radians per position.
        frequencies: D / 2 angles in radians per position, to be used instead of those of ``base``.

    Returns:
        [2, T, D] float32 on the device of ``positions``, in the form that rolls instead of
        splitting: with ``cos, sin = table`` the rotation of x is ``x * cos + x.roll(D // 2, -1) *
        sin``. Column d + D / 2 of cos repeats column d; the first half of sin is negated.
        Angles are computed in float32, as ESM-2 and GPT-NeoX do: their error is about
        position * 6e-8 radians.

    Raises:
        TypeError, ValueError: ``positions`` are not [T] integers, ``head_dim`` is odd, or
            ``base`` is not positive, or there are not D / 2 ``frequencies``.
    """
    check_angles(positions, head_dim, base)
    if frequencies:
        if len(frequencies) != head_dim // 2:
            raise ValueError(f"frequencies: {len(frequencies)} for {head_dim // 2} pairs.")
        turns = torch.tensor(frequencies, dtype=torch.float32, device=positions.device)
    else:
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device)
        turns = 1.0 / base ** (exponents / head_dim)
    angles = positions.to(torch.float32).unsqueeze(-1) * turns
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)))
