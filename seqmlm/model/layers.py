"""The parts of one Transformer layer. T tokens, E hidden size, H heads, D head size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seqmlm_kernels
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.key_value_cache import KeyValueCache
from seqmlm_kernels import AttentionBackward, Visibility
from seqmlm_kernels.linear import Linear, linear_gelu


@dataclass(frozen=True, slots=True)
class AttentionContext:
    """What all layers of one forward pass share; kernels prepare the layout of its tokens once.

    Args:
        cu_seqlens: int32 ``[rows + 1]``.
        max_seqlen: tokens of the longest row.
        position_ids: int32 ``[T]``.
        visibility: absent where every token of a row sees every other.
        rotary_table: cosines and sines of the positions, or absent with learned positions.
        local_rotary_table: the same for layers with a window, if it differs.
        backend: of the kernels.
        attention_backward: as the kernels take it.
        cache: what the tokens see beside one another; absent where they see nothing else.
    """

    cu_seqlens: Tensor
    max_seqlen: int
    position_ids: Tensor
    visibility: Visibility | None
    rotary_table: Tensor | None
    backend: str
    attention_backward: AttentionBackward = "deterministic"
    cache: KeyValueCache | None = None
    local_rotary_table: Tensor | None = None

    def rotary_table_for(self, window: int | None) -> Tensor | None:
        """Return the table of a layer with this window."""
        if window is not None and self.local_rotary_table is not None:
            return self.local_rotary_table
        return self.rotary_table


def normalisation(config: EncoderConfig) -> nn.Module:
    """Return LayerNorm (arXiv 1607.06450) or RMSNorm (arXiv 1910.07467) over the hidden size."""
    if config.normalisation == "rms":
        return nn.RMSNorm(config.hidden_size, eps=config.normalisation_epsilon)
    return nn.LayerNorm(config.hidden_size, eps=config.normalisation_epsilon, bias=config.biases)


class Attention(nn.Module):
    """Multi-head attention over packed rows, with grouped keys and values if configured."""

    def __init__(self, config: EncoderConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_size = config.head_size
        self.sizes = [
            config.heads * config.head_size,
            config.key_value_heads * config.head_size,
            config.key_value_heads * config.head_size,
        ]
        self.window = config.window_of_layer(layer)
        self.query_key_value = Linear(config.hidden_size, sum(self.sizes), bias=config.biases)
        self.output = Linear(self.sizes[0], config.hidden_size, bias=config.biases)

    def forward(
        self, hidden: Tensor, context: AttentionContext, rows: Tensor | None = None
    ) -> Tensor:
        """Map ``[T, E]`` to ``[T, E]``, or to ``[m, E]``: what these rows attend to."""
        q, k, v = (
            part.unflatten(-1, (-1, self.head_size))
            for part in self.query_key_value(hidden).split(self.sizes, dim=-1)
        )
        table = context.rotary_table_for(self.window)
        if table is not None:
            q, k = seqmlm_kernels.rotary(
                q, k, context.position_ids, table=table, backend=context.backend
            )
        attended = self._attend(q, k, v, context).flatten(-2)
        return self.output(_chosen(attended, rows))  # type: ignore[no-any-return]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, context: AttentionContext) -> Tensor:
        """Map queries ``[T, H, D]`` to what they attend to."""
        if context.cache is not None:
            context.cache.append(self.layer, k, v)
            if not context.cache.is_first_pass:
                return context.cache.attend(self.layer, q, window=self.window)
        return seqmlm_kernels.attention(
            q,
            k,
            v,
            cu_seqlens=context.cu_seqlens,
            max_seqlen=context.max_seqlen,
            visibility=context.visibility,
            positions=context.position_ids,
            window=self.window,
            backward=context.attention_backward,
            backend=context.backend,
        )


class FeedForward(nn.Module):
    """GELU network, or GeGLU (arXiv 2002.05202), which gates one half with the other."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.gated = config.activation == "geglu"
        width = config.feed_forward_size * (2 if self.gated else 1)
        self.expand = Linear(config.hidden_size, width, bias=config.biases)
        self.contract = Linear(config.feed_forward_size, config.hidden_size, bias=config.biases)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map ``[T, E]`` to ``[T, E]``."""
        if self.gated:
            value, gate = self.expand(hidden).chunk(2, dim=-1)
            return self.contract(F.gelu(gate) * value)  # type: ignore[no-any-return]
        wide = linear_gelu(hidden, self.expand.weight, self.expand.bias)
        return self.contract(wide)  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each around a residual connection."""

    def __init__(self, config: EncoderConfig, layer: int) -> None:
        super().__init__()
        self.pre_norm = config.normalisation_placement == "pre"
        skips_norm = self.pre_norm and layer == 0 and not config.first_attention_normalisation
        self.attention_norm = nn.Identity() if skips_norm else normalisation(config)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = normalisation(config)
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, hidden: Tensor, context: AttentionContext, rows: Tensor | None = None
    ) -> Tensor:
        """Map ``[T, E]`` to ``[T, E]``, or to ``[m, E]``: the output of these rows alone."""
        if self.pre_norm:
            attended = self.attention(self.attention_norm(hidden), context, rows)
            hidden = _chosen(hidden, rows) + self.dropout(attended)
            widened = self.feed_forward(self.feed_forward_norm(hidden))
            return hidden + self.dropout(widened)  # type: ignore[no-any-return]
        attended = self.attention(hidden, context, rows)
        hidden = self.attention_norm(_chosen(hidden, rows) + self.dropout(attended))
        widened = hidden + self.dropout(self.feed_forward(hidden))
        return self.feed_forward_norm(widened)  # type: ignore[no-any-return]


def _chosen(hidden: Tensor, rows: Tensor | None) -> Tensor:
    return hidden if rows is None else hidden.index_select(0, rows)


def scale_kept_tokens(
    embedded: Tensor, is_mask: Tensor, cu_seqlens: Tensor, mask_token_rate: float
) -> Tensor:
    """Zero the mask tokens and rescale the rest of each row: ESM's token dropout.

    The scale is (1 - expected) / (1 - observed) with the share of mask tokens in the row. ESM
    hard-codes expected = 0.15 x 0.8 (esm2.py); here it comes from the masking policy.

    Args:
        embedded: ``[T, E]``.
        is_mask: bool ``[T]``.
        cu_seqlens: int32 ``[rows + 1]``.
        mask_token_rate: expected share of mask tokens in training, in [0, 1).
    """
    lengths = cu_seqlens.diff().long()
    row = torch.repeat_interleave(
        torch.arange(len(lengths), device=embedded.device), lengths, output_size=len(is_mask)
    )
    kept = torch.zeros(len(lengths), dtype=torch.float32, device=embedded.device)
    kept = kept.index_add(0, row, (~is_mask).float()) / lengths.clamp(min=1)
    # A row of mask tokens alone has nothing to rescale; any finite factor will do.
    scale = (1 - mask_token_rate) / kept.clamp(min=1e-6)
    scaled = embedded * scale[row, None].to(embedded.dtype)
    return scaled.masked_fill(is_mask[:, None], 0.0)
