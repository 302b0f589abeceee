"""Which divergence tells that probability leaks to tokens that cannot be predicted."""

from __future__ import annotations

import pytest
import torch

from seqmlm_kernels import masked_softmax

SCORES = torch.tensor([[2.0, 1.0, 0.0, 5.0]], dtype=torch.float64)
SPECIAL = 3


def divergence(p: torch.Tensor, q: torch.Tensor) -> float:
    """KL(p || q), nats."""
    support = p > 0
    return float((p[support] * (p[support] / q[support]).log()).sum())


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_only_the_leaky_softmax_against_the_masked_one_is_infinite(backend: str) -> None:
    """objectives.md 1, row 17: a detector must put the candidate first."""
    allowed = torch.tensor([[0b0111]], dtype=torch.int32)
    masked = masked_softmax(SCORES, allowed, backend=backend)[0]
    leaky = SCORES.softmax(1)[0]
    torch.testing.assert_close(
        masked, torch.tensor([0.6652, 0.2447, 0.0900, 0], dtype=torch.float64), rtol=0, atol=1e-4
    )
    assert masked[SPECIAL] == 0
    assert divergence(leaky, masked) == float("inf")
    finite = divergence(masked, leaky)
    assert finite == pytest.approx(2.66456, abs=1e-5)
    assert finite == pytest.approx(-float(torch.log1p(-leaky[SPECIAL])))
    assert divergence(masked, masked) == 0
