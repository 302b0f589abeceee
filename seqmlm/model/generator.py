"""A smaller encoder that shares embeddings and token head with the main one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.encoder import Encoder, attention_context, initialise
from seqmlm.model.layers import EncoderLayer, normalisation
from seqmlm_kernels.linear import Linear

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch


class Generator(nn.Module):
    """The generator of ELECTRA (arXiv 2003.10555, 3.2): narrower layers, shared embeddings.

    Token, position, segment and role embeddings are those of the main encoder, with a linear
    layer to the smaller width; another leads back to the main width, where the model's token head
    scores the vocabulary. So the generator owns no row of a table.

    Args:
        encoder: of the main encoder.
        width: share of its attention heads, and so of its hidden and feed-forward sizes, in
            (0, 1]; rounded to whole heads, at least one.
        depth: share of its layers, in (0, 1]; rounded, at least one.
    """

    def __init__(self, encoder: EncoderConfig, *, width: float, depth: float) -> None:
        super().__init__()
        self.config = _smaller(encoder, width=width, depth=depth)
        narrow = self.config.hidden_size
        self.contract = Linear(encoder.hidden_size, narrow, bias=encoder.biases)
        self.layers = nn.ModuleList(
            EncoderLayer(self.config, layer) for layer in range(self.config.layers)
        )
        pre_norm = self.config.normalisation_placement == "pre"
        self.final_norm = normalisation(self.config) if pre_norm else nn.Identity()
        self.expand = Linear(narrow, encoder.hidden_size, bias=encoder.biases)
        initialise(self, self.config)

    def forward(self, encoder: Encoder, batch: PackedBatch) -> Tensor:
        """Return states for the token head, ``[tokens, hidden_size of the main encoder]``.

        Args:
            encoder: the main one, which embeds the tokens.
            batch: see :meth:`Encoder.forward`.
        """
        context = attention_context(
            self.config,
            batch,
            backend=encoder.backend,
            attention_backward=encoder.attention_backward,
        )
        hidden = self.contract(encoder.embed(batch))
        for layer in self.layers:
            hidden = layer(hidden, context)
        return self.expand(self.final_norm(hidden))  # type: ignore[no-any-return]


def _smaller(encoder: EncoderConfig, *, width: float, depth: float) -> EncoderConfig:
    """The same options on whole heads of the same size."""
    heads = max(1, round(encoder.heads * width))
    return replace(
        encoder,
        layers=max(1, round(encoder.layers * depth)),
        heads=heads,
        key_value_heads=0,
        hidden_size=heads * encoder.head_size,
        feed_forward_size=max(1, encoder.feed_forward_size * heads // encoder.heads),
    )
