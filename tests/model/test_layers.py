"""Parts of a layer against formulas written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.layers import FeedForward, normalisation, scale_kept_tokens

MASK = 32


def esm_token_dropout(embedded: Tensor, tokens: Tensor) -> Tensor:
    """ESM's own formula on one unpadded row (esm/model/esm2.py, ESM2.forward)."""
    embedded = embedded.masked_fill((tokens == MASK).unsqueeze(-1), 0.0)
    mask_ratio_train = 0.15 * 0.8
    mask_ratio_observed = (tokens == MASK).sum() / len(tokens)
    return embedded * (1 - mask_ratio_train) / (1 - mask_ratio_observed)


def test_token_dropout_is_that_of_esm_in_every_row() -> None:
    rows = [[0, 5, MASK, 7, 2], [0, 9, 2], [0, MASK, MASK, MASK, 5, 2], [4]]
    ids = torch.tensor([token for row in rows for token in row])
    embedded = torch.randn(len(ids), 8, generator=torch.Generator().manual_seed(0))
    boundaries = torch.tensor([0, 5, 8, 14, 15], dtype=torch.int32)
    found = scale_kept_tokens(embedded, ids == MASK, boundaries, 0.15 * 0.8)
    sizes = [len(row) for row in rows]
    expected = [
        esm_token_dropout(part, tokens)
        for part, tokens in zip(torch.split(embedded, sizes), torch.split(ids, sizes), strict=True)
    ]
    torch.testing.assert_close(found, torch.cat(expected))


def test_token_dropout_of_mask_tokens_alone_gives_zeros() -> None:
    embedded = torch.ones(3, 4, requires_grad=True)
    found = scale_kept_tokens(
        embedded, torch.ones(3, dtype=torch.bool), torch.tensor([0, 3], dtype=torch.int32), 0.12
    )
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert not found.any()
    assert embedded.grad is not None
    assert not embedded.grad.any()


def test_token_dropout_passes_over_empty_rows() -> None:
    embedded = torch.ones(2, 4)
    boundaries = torch.tensor([0, 0, 2, 2], dtype=torch.int32)
    found = scale_kept_tokens(embedded, torch.tensor([False, True]), boundaries, 0.0)
    torch.testing.assert_close(found, torch.tensor([[2.0] * 4, [0.0] * 4]))


def config(**options: object) -> EncoderConfig:
    shape = {"vocabulary_size": 33, "mask_token": MASK, "hidden_size": 8, "heads": 2}
    return EncoderConfig(**shape | options)  # type: ignore[arg-type]


def test_geglu_gates_one_half_with_the_gelu_of_the_other() -> None:
    block = FeedForward(config(feed_forward_size=4)).double()
    x = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    value, gate = x @ block.expand.weight[:4].T, x @ block.expand.weight[4:].T
    gelu = gate * 0.5 * (1 + torch.erf(gate / 2**0.5))
    torch.testing.assert_close(block(x), (value * gelu) @ block.contract.weight.T)


def test_gelu_network_has_no_gate() -> None:
    block = FeedForward(config(activation="gelu", biases=True)).double()
    torch.nn.init.normal_(block.expand.bias)
    x = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wide = x @ block.expand.weight.T + block.expand.bias
    gelu = wide * 0.5 * (1 + torch.erf(wide / 2**0.5))
    expected = gelu @ block.contract.weight.T + block.contract.bias
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_norms_use_the_configured_epsilon(kind: str, epsilon: float) -> None:
    norm = normalisation(config(normalisation=kind, normalisation_epsilon=epsilon))
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    centred = x - x.mean(-1, keepdim=True) if kind == "layer" else x
    expected = centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()
    torch.testing.assert_close(norm(x), expected)
