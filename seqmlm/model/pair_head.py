"""Attention maps to a logit for each pair of tokens, such as that two residues touch."""

# H heads of a layer, N tokens

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmlm.model.configuration import EncoderConfig


class PairHead(nn.Module):
    """A logistic regression over corrected attention maps, as ESM's contact head.

    Rao et al. 2021, https://openreview.net/forum?id=fylclEqgvgd.

    Args:
        encoder: gives the number of maps, which are layers x heads, the first layer's first.
    """

    def __init__(self, encoder: EncoderConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, encoder.layers * encoder.heads))
        self.bias = nn.Parameter(torch.zeros(1))

    def layer_logits(self, layer: int, maps: Tensor) -> Tensor:
        """Return what a layer adds to the logits, float ``[N, N]``; the bias comes once on top.

        Args:
            layer: counted from 0.
            maps: float ``[H, N, N]``, of :func:`corrected_maps`.
        """
        heads = len(maps)
        weights = self.weight[0, layer * heads : (layer + 1) * heads]
        return torch.einsum("h,hij->ij", weights, maps)


def corrected_maps(weights: Tensor) -> Tensor:
    """Return attention made symmetric and free of what its rows and columns tell by themselves.

    The average product correction (Dunn et al. 2008, https://doi.org/10.1093/bioinformatics/btm604)
    takes away the product of the sums of row and column over the sum of all.

    Args:
        weights: float ``[H, N, N]``, not negative, of the tokens that may form pairs.
    """
    symmetric = weights + weights.transpose(-1, -2)
    rows = symmetric.sum(-1, keepdim=True)
    # Heads that attend to special tokens alone give maps of zeros, which stay zeros.
    total = rows.sum(-2, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    expected = rows * rows.transpose(-1, -2) / total
    return symmetric - expected
