"""The one encoder of every domain: token ids to hidden states, unpadded from end to end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import seqmlm_kernels
from seqmlm.errors import DataError
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.key_value_cache import KeyValueCache
from seqmlm.model.layers import (
    Attention,
    AttentionContext,
    EncoderLayer,
    FeedForward,
    normalisation,
    scale_kept_tokens,
)
from seqmlm_kernels import AttentionBackward

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch

INITIAL_DEVIATION = 0.02


class Encoder(nn.Module):
    """A Transformer encoder over packed rows.

    Args:
        config: shape and options.
        backend: of the kernels: ``auto``, ``reference``, ``torch`` or ``triton``.
        attention_backward: see :func:`seqmlm_kernels.attention`.
    """

    def __init__(
        self,
        config: EncoderConfig,
        *,
        backend: str = "auto",
        attention_backward: AttentionBackward = "deterministic",
    ) -> None:
        super().__init__()
        self.config = config
        self.backend = backend
        self.attention_backward = attention_backward
        self.token_embedding = nn.Embedding(config.vocabulary_size, config.hidden_size)
        self.position_embedding = _table(config.max_positions, config.hidden_size)
        self.segment_embedding = _table(config.segments, config.hidden_size)
        self.role_embedding = _table(config.roles, config.hidden_size)
        self.embedding_norm = (
            normalisation(config) if config.embedding_normalisation else nn.Identity()
        )
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(EncoderLayer(config, i) for i in range(config.layers))
        pre_norm = config.normalisation_placement == "pre"
        self.final_norm = normalisation(config) if pre_norm else nn.Identity()
        initialise(self, config)

    def forward(
        self,
        batch: PackedBatch,
        *,
        cache: KeyValueCache | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Return hidden states ``[tokens, hidden_size]`` of a packed batch.

        A row's result depends on no other row of the batch.

        Args:
            batch: whole rows; or, with a cache that holds rows, the next token of each.
            cache: gets the keys and values of the batch.
            rows: int64 ``[m]``, the tokens whose states are wanted: ``[m, hidden_size]`` is
                returned. The last layer then works for them alone, which saves three quarters of
                its linear maps where they are few.

        Raises:
            DataError: a row is longer than the table of learned positions.
        """
        if cache is not None:
            cache.begin_pass(batch)
        context = attention_context(
            self.config,
            batch,
            backend=self.backend,
            attention_backward=self.attention_backward,
            cache=cache,
        )
        hidden = self.embed(batch)
        *lower, last = self.layers
        for layer in lower:
            hidden = layer(hidden, context)
        return self.final_norm(last(hidden, context, rows))  # type: ignore[no-any-return]

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
            rows = batch.position_ids + self.config.position_offset
            embedded = embedded + self.position_embedding(rows)
        if self.segment_embedding is not None:
            segments = batch.segment_ids
            if self.config.segments == 1:
                segments = torch.zeros_like(segments)
            embedded = embedded + self.segment_embedding(segments)
        if self.role_embedding is not None:
            # As in a batch with other rows that have roles: without, a token's role is 0.
            roles = batch.role_ids
            if roles is None:
                roles = torch.zeros_like(batch.segment_ids)
            embedded = embedded + self.role_embedding(roles)
        return self.dropout(self.embedding_norm(embedded))  # type: ignore[no-any-return]

    def _check_length(self, tokens: int) -> None:
        longest = self.config.longest_sequence
        if longest is not None and tokens > longest:
            raise DataError(
                f"A sequence has {tokens} tokens, special tokens included; this model has learned "
                f"{longest} positions (model.max_positions). Give it in parts."
            )


def attention_context(
    config: EncoderConfig,
    batch: PackedBatch,
    *,
    backend: str,
    attention_backward: AttentionBackward = "deterministic",
    cache: KeyValueCache | None = None,
) -> AttentionContext:
    """Return what all layers need to know of a batch."""
    rotary_table = local_rotary_table = None
    if config.positions == "rotary":
        rotary_table = seqmlm_kernels.rotary_table(
            batch.position_ids,
            config.head_size,
            base=config.rotary_base,
            frequencies=config.rotary_frequencies,
        )
    if config.local_rotary_base:
        local_rotary_table = seqmlm_kernels.rotary_table(
            batch.position_ids, config.head_size, base=config.local_rotary_base
        )
    layout = seqmlm_kernels.attention_layout(
        batch.cu_seqlens, visibility=batch.visibility, positions=batch.position_ids
    )
    return AttentionContext(
        cu_seqlens=layout.cu_seqlens,
        max_seqlen=batch.max_seqlen,
        position_ids=layout.positions,
        visibility=layout.visibility,
        rotary_table=rotary_table,
        backend=backend,
        attention_backward=attention_backward,
        cache=cache,
        local_rotary_table=local_rotary_table,
    )


def initialise(module: nn.Module, config: EncoderConfig) -> None:
    """Draw the weights of an encoder.

    What is added to the residual stream is scaled by 1 / sqrt(2 layers), as in GPT-2.
    """
    module.apply(_initialise)
    factor = 1 / math.sqrt(2 * config.layers)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, Attention):
                part.output.weight.mul_(factor)
            elif isinstance(part, FeedForward):
                part.contract.weight.mul_(factor)


def _table(rows: int, hidden_size: int) -> nn.Embedding | None:
    return nn.Embedding(rows, hidden_size) if rows else None


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_DEVIATION)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
