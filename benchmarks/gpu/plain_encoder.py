"""The same encoder in plain torch on padded rows: what one would write without our kernels."""

# B rows, L tokens of the longest row, H heads, D head dimension, E hidden size

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from seqmlm.model.configuration import EncoderConfig
from seqmlm_kernels.rotary_table import rotary_table


class PlainLayer(nn.Module):
    """Pre-norm attention by SDPA, and GELU or GeGLU."""

    def __init__(self, config: EncoderConfig, layer: int) -> None:
        super().__init__()
        width, inner, biases = config.hidden_size, config.feed_forward_size, config.biases
        self.heads = config.heads
        self.window = config.window_of_layer(layer)
        self.gated = config.activation == "geglu"
        self.attention_norm = nn.LayerNorm(width, bias=biases)
        self.query_key_value = nn.Linear(width, 3 * width, bias=biases)
        self.output = nn.Linear(width, width, bias=biases)
        self.feed_forward_norm = nn.LayerNorm(width, bias=biases)
        self.expand = nn.Linear(width, inner * (2 if self.gated else 1), bias=biases)
        self.contract = nn.Linear(inner, width, bias=biases)

    def forward(self, hidden: Tensor, mask: Tensor, table: Tensor) -> Tensor:
        """Map [B, L, E] to [B, L, E] under a mask [B, 1, 1, L] or [B, 1, L, L]."""
        projected = self.query_key_value(self.attention_norm(hidden))
        q, k, v = projected.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        cosine, sine = table.to(q.dtype)
        half = q.shape[-1] // 2
        q, k = (x * cosine + x.roll(half, dims=-1) * sine for x in (q, k))
        attended = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        hidden = hidden + self.output(attended.transpose(1, 2).flatten(-2))
        wide = self.expand(self.feed_forward_norm(hidden))
        if self.gated:
            value, gate = wide.chunk(2, dim=-1)
            wide = functional.gelu(gate) * value
        else:
            wide = functional.gelu(wide)
        contracted: Tensor = self.contract(wide)
        return hidden + contracted


class PlainEncoder(nn.Module):
    """Token ids to the mean loss of a tied head, over all positions as libraries do it."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary_size, config.hidden_size)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.layers = nn.ModuleList(PlainLayer(config, i) for i in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden_size, bias=config.biases)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary_size))

    def forward(self, ids: Tensor, exists: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of ids [B, L] and labels [B, L], -100 where nothing is predicted."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        table = rotary_table(positions, self.config.head_size)
        everywhere = exists[:, None, None, :]
        near = (positions[:, None] - positions[None, :]).abs() <= self.config.window
        # A padded query far from every real key would see nothing: let it see itself.
        local = (everywhere & near) | torch.eye(len(positions), dtype=torch.bool, device=ids.device)
        hidden = self.embedding(ids)
        for layer in self.layers:
            hidden = layer(hidden, everywhere if layer.window is None else local, table)
        scores = functional.linear(self.norm(hidden), self.embedding.weight, self.bias)
        return functional.cross_entropy(scores.flatten(0, 1).float(), labels.flatten())
