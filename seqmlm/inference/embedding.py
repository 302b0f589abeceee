"""One vector per sequence, or one per token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError
from seqmlm.inference.batches import hidden_states
from seqmlm.objectives.rows import Row

if TYPE_CHECKING:
    from seqmlm.model.model import Model

Pooling = Literal["mean", "cls", "tokens"]


def embed(model: Model, texts: Sequence[str], *, pooling: Pooling, tokens_per_batch: int) -> Tensor:
    """See :meth:`seqmlm.model.model.Model.embed`."""
    if pooling not in ("mean", "cls"):
        raise ConfigError(f"pooling = {pooling!r}: it is 'mean' or 'cls'.")
    if not texts:
        return torch.empty(0, model.encoder.config.hidden_size)
    encodings = [model.domain.parse(text) for text in texts]
    return torch.cat(
        list(embed_encodings(model, encodings, pooling=pooling, tokens_per_batch=tokens_per_batch))
    )


def embed_encodings(
    model: Model, encodings: Sequence[Encoding], *, pooling: Pooling, tokens_per_batch: int
) -> Iterator[Tensor]:
    """Yield the vectors of each encoding, float32 on the CPU, in order.

    Args:
        model: any.
        encodings: any number.
        pooling: ``mean`` over the content tokens and ``cls`` give ``[1, hidden_size]``; ``tokens``
            gives ``[content tokens, hidden_size]``. Content is what lies between the special
            tokens.
        tokens_per_batch: bounds the memory; results do not depend on it.
    """
    found: list[Tensor | None] = [None] * len(encodings)
    special = np.unique([model.vocabulary.special.start, model.vocabulary.special.end])
    with model.inference():
        for chosen, batch, hidden in hidden_states(
            model, [Row.of(encoding) for encoding in encodings], tokens_per_batch=tokens_per_batch
        ):
            starts = batch.cu_seqlens.tolist()
            states = hidden.float().cpu()
            for position, start, end in zip(chosen, starts[:-1], starts[1:], strict=True):
                content = ~np.isin(encodings[position].ids, special)
                found[position] = _pool(states[start:end], torch.from_numpy(content), pooling)
    for vectors in found:
        assert vectors is not None
        yield vectors


def _pool(states: Tensor, content: Tensor, pooling: Pooling) -> Tensor:
    if pooling == "cls":
        return states[:1].clone()
    chosen = states[content]
    if pooling == "tokens":
        return chosen
    # A sequence without content (the empty text) has nothing to average but its special tokens.
    return (chosen if len(chosen) else states).mean(dim=0, keepdim=True)
