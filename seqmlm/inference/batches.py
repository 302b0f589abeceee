"""Encodings grouped into packed batches of bounded size, longest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from seqmlm.data.packing import PackedBatch, pack
from seqmlm.objectives.rows import Row

if TYPE_CHECKING:
    from seqmlm.model.model import Model


def hidden_states(
    model: Model, rows: Sequence[Row], *, tokens_per_batch: int
) -> Iterator[tuple[list[int], PackedBatch, Tensor]]:
    """Run the encoder over rows of similar length together.

    Args:
        model: in inference mode.
        rows: any number.
        tokens_per_batch: most tokens at once; a longer row goes alone.

    Yields:
        Positions in ``rows`` of the batch's rows, the batch on the model's device, and its hidden
        states ``[tokens, hidden_size]``.
    """
    order = sorted(range(len(rows)), key=lambda position: -len(rows[position].ids))
    start = 0
    while start < len(order):
        end, tokens = start, 0
        while end < len(order) and (
            end == start or tokens + len(rows[order[end]].ids) <= tokens_per_batch
        ):
            tokens += len(rows[order[end]].ids)
            end += 1
        chosen = order[start:end]
        batch = pack([rows[position] for position in chosen]).to(model.device)
        yield chosen, batch, model(batch)
        start = end
