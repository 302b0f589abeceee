"""The one encoder of every domain: token ids to hidden states, unpadded from end to end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import seqmlm_kernels
from seqmlm.errors import DataError
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.layers import (
    Attention,
    AttentionContext,
    EncoderLayer,
    FeedForward,
    normalisation,
    scale_kept_tokens,
)

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch

INITIAL_DEVIATION = 0.02


class Encoder(nn.Module):
    """A Transformer encoder over packed rows.

    Args:
        config: shape and options.
        backend: of the kernels: ``auto``, ``reference``, ``torch`` or ``triton``.
    """

    def __init__(self, config: EncoderConfig, *, backend: str = "auto") -> None:
        super().__init__()
        self.config = config
        self.backend = backend
        self.token_embedding = nn.Embedding(config.vocabulary_size, config.hidden_size)
        self.position_embedding = _table(config.max_positions, config.hidden_size)
        self.segment_embedding = _table(config.segments, config.hidden_size)
        self.embedding_norm = (
            normalisation(config) if config.embedding_normalisation else nn.Identity()
        )
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(EncoderLayer(config, i) for i in range(config.layers))
        pre_norm = config.normalisation_placement == "pre"
        self.final_norm = normalisation(config) if pre_norm else nn.Identity()
        self.apply(_initialise)
        self._shrink_residual_outputs()

    def forward(self, batch: PackedBatch) -> Tensor:
        """Return hidden states ``[tokens, hidden_size]`` of a packed batch.

        A row's result depends on no other row of the batch.

        Raises:
            DataError: a row is longer than the table of learned positions.
        """
        context = AttentionContext(
            cu_seqlens=batch.cu_seqlens,
            max_seqlen=batch.max_seqlen,
            position_ids=batch.position_ids,
            visibility=batch.visibility,
            rotary_table=self._rotary_table(batch.position_ids),
            backend=self.backend,
        )
        hidden = self.embed(batch)
        for layer in self.layers:
            hidden = layer(hidden, context)
        return self.final_norm(hidden)  # type: ignore[no-any-return]

    def embed(self, batch: PackedBatch) -> Tensor:
        """Return the input of the first layer, ``[tokens, hidden_size]``."""
        embedded: Tensor = self.token_embedding(batch.ids)
        if self.config.token_dropout:
            embedded = scale_kept_tokens(
                embedded,
                batch.ids == self.config.mask_token,
                batch.cu_seqlens,
                self.config.mask_token_rate,
            )
        if self.position_embedding is not None:
            self._check_length(batch.num_positions)
            embedded = embedded + self.position_embedding(batch.position_ids)
        if self.segment_embedding is not None:
            embedded = embedded + self.segment_embedding(batch.segment_ids)
        return self.dropout(self.embedding_norm(embedded))  # type: ignore[no-any-return]

    def _check_length(self, tokens: int) -> None:
        if tokens > self.config.max_positions:
            raise DataError(
                f"A sequence has {tokens} tokens, special tokens included; this model has learned "
                f"{self.config.max_positions} positions (model.max_positions). Give it in parts."
            )

    def _rotary_table(self, position_ids: Tensor) -> Tensor | None:
        if self.config.positions != "rotary":
            return None
        return seqmlm_kernels.rotary_table(
            position_ids, self.config.head_size, base=self.config.rotary_base
        )

    def _shrink_residual_outputs(self) -> None:
        """Scale what is added to the residual stream by 1 / sqrt(2 layers), as GPT-2 does."""
        factor = 1 / math.sqrt(2 * self.config.layers)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, Attention):
                    module.output.weight.mul_(factor)
                elif isinstance(module, FeedForward):
                    module.contract.weight.mul_(factor)


def _table(rows: int, hidden_size: int) -> nn.Embedding | None:
    return nn.Embedding(rows, hidden_size) if rows else None


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_DEVIATION)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
