"""Operands of attention over packed rows, and the same rows padded to the longest."""

# T tokens, H heads, D head dimension, B rows, L tokens of the longest row

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqmlm_kernels import Visibility
from seqmlm_kernels.visibility import sequence_positions, visible_pairs


@dataclass(frozen=True, eq=False)
class Packed:
    """bf16 operands [T, H, D] of rows that stand one after the other.

    Args:
        rows: their lengths.
        cu_seqlens: [B + 1] int32.
        row: [T], the row of each token.
        position: [T], its index in the row.
    """

    rows: list[int]
    cu_seqlens: Tensor
    row: Tensor
    position: Tensor
    tensors: tuple[Tensor, Tensor, Tensor, Tensor]

    @classmethod
    def random(cls, rows: list[int], *, heads: int, head_dim: int, device: torch.device) -> Packed:
        """Queries, keys, values and a gradient of the output."""
        generator = torch.Generator(device).manual_seed(0)
        cu_seqlens = torch.tensor([0, *rows], device=device).cumsum(0).int()
        tokens = sum(rows)
        q, k, v, above = (
            torch.randn(tokens, heads, head_dim, generator=generator, device=device).bfloat16()
            for _ in range(4)
        )
        lengths = cu_seqlens.diff().long()
        row = torch.arange(len(rows), device=device).repeat_interleave(lengths)
        return cls(rows, cu_seqlens, row, sequence_positions(cu_seqlens).long(), (q, k, v, above))

    @property
    def tokens(self) -> int:
        """T."""
        return sum(self.rows)

    @property
    def longest(self) -> int:
        """L."""
        return max(self.rows)

    def operands(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys, values and the gradient of the output, [T, H, D] each."""
        return self.tensors

    def flop(self, mode: str) -> float:
        """Operations of "forward", "backward" (five products to its two) or both."""
        _, heads, head_dim = self.tensors[0].shape
        forward = 4.0 * head_dim * heads * sum(length * length for length in self.rows)
        return {"forward": 1.0, "backward": 2.5, "forward and backward": 3.5}[mode] * forward

    def padded(self, x: Tensor) -> Tensor:
        """[T, H, D] to [B, H, L, D], zeros behind each row."""
        output = x.new_zeros(len(self.rows), self.longest, *x.shape[1:])
        output[self.row, self.position] = x
        return output.transpose(1, 2).contiguous()

    def key_mask(self) -> Tensor:
        """[B, 1, 1, L] bool: which keys are there."""
        lengths = self.cu_seqlens.diff().unsqueeze(1)
        exists = torch.arange(self.longest, device=lengths.device) < lengths
        return exists[:, None, None, :]

    def pair_mask(self, visibility: Visibility) -> Tensor:
        """[B, 1, L, L] bool: who sees whom; padding sees everything, so that it stays finite."""
        fields = []
        for values, filler in ((visibility.step, 1), (visibility.reach, 0), (visibility.group, -1)):
            field = values.new_full((len(self.rows), self.longest), filler)
            field[self.row, self.position] = values
            fields.append(field)
        mask = visible_pairs(*fields)
        exists = self.key_mask()[:, 0, 0]
        mask = (mask & exists.unsqueeze(1)) | ~exists.unsqueeze(2)
        return mask.unsqueeze(1)
