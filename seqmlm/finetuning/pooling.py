"""One state for each row of a packed batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from seqmlm.errors import ConfigError
from seqmlm.vocabulary import SpecialTokens

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch

RowPooling = Literal["mean", "cls"]


def check_pooling(pooling: str) -> None:
    """Refuse what is no pooling.

    Raises:
        ConfigError: it is neither ``mean`` nor ``cls``.
    """
    if pooling not in get_args(RowPooling):
        raise ConfigError(f"task.pooling = {pooling!r}: it is 'mean' or 'cls'.")


def pooled_states(
    hidden: Tensor, batch: PackedBatch, *, pooling: RowPooling, special: SpecialTokens
) -> Tensor:
    """Return float32 ``[rows, hidden_size]``: the mean of a row's content, or its first state.

    Args:
        hidden: float ``[tokens, hidden_size]``.
        batch: rows that each hold a token besides the special ones.
        pooling: ``mean`` over all tokens but start and end tokens, or ``cls``.
        special: of the vocabulary.
    """
    if pooling == "cls" or not batch.num_rows:
        return hidden[batch.cu_seqlens[:-1].long()].float()
    content = (batch.ids != special.start) & (batch.ids != special.end)
    ends = torch.cat([content.new_zeros(1, dtype=torch.long), content.cumsum(0)])
    lengths = ends[batch.cu_seqlens.long()].diff()
    states: Tensor = torch.segment_reduce(  # adds in order: the same sums every time
        hidden[content].float(), "mean", lengths=lengths, axis=0
    )
    return states
