"""One vector per sequence, or one per token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError
from seqmlm.inference.batches import hidden_states
from seqmlm.inference.texts import given_texts
from seqmlm.objectives.rows import Row

if TYPE_CHECKING:
    from seqmlm.model.model import Model

Pooling = Literal["mean", "cls", "tokens"]


def embed(model: Model, texts: Sequence[str], *, pooling: Pooling, tokens_per_batch: int) -> Tensor:
    """See :meth:`seqmlm.model.model.Model.embed`."""
    if pooling not in ("mean", "cls"):
        raise ConfigError(f"pooling = {pooling!r}: it is 'mean' or 'cls'.")
    encodings = [model.domain.parse(text) for text in given_texts(texts)]
    if not encodings:
        return torch.empty(0, model.encoder.config.hidden_size)
    return torch.cat(
        list(embed_encodings(model, encodings, pooling=pooling, tokens_per_batch=tokens_per_batch))
    )


def embed_encodings(
    model: Model, encodings: Sequence[Encoding], *, pooling: Pooling, tokens_per_batch: int
) -> Iterator[Tensor]:
    """Yield the vectors of each encoding in order; see :func:`vectors_by_position`."""
    with model.inference():
        found = dict(
            vectors_by_position(
                model, encodings, pooling=pooling, tokens_per_batch=tokens_per_batch
            )
        )
    for position in range(len(encodings)):
        yield found.pop(position)


def vectors_by_position(
    model: Model, encodings: Sequence[Encoding], *, pooling: Pooling, tokens_per_batch: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield the position of each encoding and its vectors, float32 on the CPU, longest first.

    Args:
        model: in inference mode.
        encodings: any number.
        pooling: ``mean`` over the content tokens and ``cls`` give ``[1, hidden_size]``; ``tokens``
            gives ``[content tokens, hidden_size]``. Content is what lies between the special
            tokens.
        tokens_per_batch: bounds the memory; results do not depend on it.
    """
    rows = [Row.of(encoding) for encoding in encodings]
    for chosen, batch, hidden in hidden_states(model, rows, tokens_per_batch=tokens_per_batch):
        starts = batch.cu_seqlens.tolist()
        states = hidden.float().cpu()
        for position, start, end in zip(chosen, starts[:-1], starts[1:], strict=True):
            content = torch.from_numpy(_is_content(model, encodings[position]))
            yield position, _pool(states[start:end], content, pooling)


def count_vectors(model: Model, encoding: Encoding, pooling: Pooling) -> int:
    """Return how many vectors :func:`vectors_by_position` gives for an encoding."""
    return int(_is_content(model, encoding).sum()) if pooling == "tokens" else 1


def _is_content(model: Model, encoding: Encoding) -> npt.NDArray[np.bool_]:
    special = model.vocabulary.special
    return ~np.isin(encoding.ids, (special.start, special.end))


def _pool(states: Tensor, content: Tensor, pooling: Pooling) -> Tensor:
    if pooling == "cls":
        return states[:1].clone()
    chosen = states[content]
    if pooling == "tokens":
        return chosen
    # A sequence without content (the empty text) has nothing to average but its special tokens.
    return (chosen if len(chosen) else states).mean(dim=0, keepdim=True)
