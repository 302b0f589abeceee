"""Operands of more than 2 ** 31 numbers: files with holes, of which a few pages are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from seqmlm_kernels import AttentionBackward, attention, token_log_likelihood


def zeros_with_holes(path: Path, *shape: int) -> Tensor:
    """Zeros [shape] fp16 that take no memory until they are written."""
    return torch.from_numpy(np.memmap(path, dtype=np.float16, mode="w+", shape=shape))


@pytest.mark.parametrize("backward", ["deterministic", "atomic"])
@pytest.mark.parametrize("stride", [2**24, 2**26], ids=["read in place", "copied"])
def test_tokens_past_2_to_the_31_numbers_are_read(
    backward: AttentionBackward, stride: int, tmp_path: Path
) -> None:
    """Results are those of the same numbers side by side.

    With the first stride the second sequence starts there; with the second one tile passes it.
    """
    operands = zeros_with_holes(tmp_path / "operands", 130, stride)[:, :32].view(130, 4, 8)
    operands.copy_(torch.randn(operands.shape, generator=torch.Generator().manual_seed(0)))
    cu_seqlens = torch.tensor([0, 128, 130])

    def results(x: Tensor) -> tuple[Tensor, ...]:
        q, k, v, output_gradient = x.split(1, dim=1)
        leaves = [part.detach().requires_grad_() for part in (q, k, v)]
        output = attention(
            *leaves, cu_seqlens=cu_seqlens, max_seqlen=128, backward=backward, backend="triton",
        )  # fmt: skip
        return output.detach(), *torch.autograd.grad(output, leaves, output_gradient)

    for far, near in zip(results(operands), results(operands.contiguous()), strict=True):
        assert torch.equal(far, near)
        assert near[128:].any()


def test_rows_of_the_vocabulary_past_2_to_the_31_numbers_are_read(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = zeros_with_holes(tmp_path / "weight", 2**21 + 64, 1024)
    weight[-64:] = torch.randn(64, 1024, generator=generator) / 32
    hidden = torch.randn(1, 1024, generator=generator).half()
    allowed = torch.zeros(1, len(weight) // 32, dtype=torch.int32)
    allowed[:, -2:] = -1
    ids = torch.arange(len(weight) - 64, len(weight))[None]
    found = token_log_likelihood(
        hidden, weight, None, torch.tensor([0]), ids, allowed=allowed, backend="triton"
    )
    expected = (hidden.float() @ weight[-64:].float().T).log_softmax(-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)
