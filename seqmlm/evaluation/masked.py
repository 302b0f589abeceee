"""The loss of a model on held-out tokens that it cannot see."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqmlm.data.samples import EVALUATION, EvaluationSample
from seqmlm.inference.batches import hidden_states
from seqmlm.model.model import Model


@dataclass(frozen=True)
class MaskedScores:
    """Sums over targets by true token and by sequence.

    Args:
        table: float64 ``[vocabulary, 3]``: targets, summed nats, correct predictions. Adding the
            tables of two parts gives that of the whole.
        sequence_nats: float64 ``[sequences]``, summed nats, in the order of the samples.
    """

    table: Tensor
    sequence_nats: Tensor

    @property
    def targets(self) -> int:
        """Number of predicted tokens."""
        return int(self.table[:, 0].sum())

    @property
    def loss(self) -> float:
        """Mean cross-entropy, nats per target; NaN without targets."""
        return float(self.table[:, 1].sum() / self.table[:, 0].sum())

    @property
    def perplexity(self) -> float:
        """Exponential of the loss."""
        return math.exp(self.loss)

    @property
    def accuracy(self) -> float:
        """Share of targets whose most probable token is the true one, in [0, 1]."""
        return float(self.table[:, 2].sum() / self.table[:, 0].sum())

    def by_token(self, tokens: Sequence[str]) -> list[dict[str, Any]]:
        """Return token, targets, loss and accuracy of every token that occurs as a target."""
        return [
            {
                "token": tokens[index],
                "targets": int(count),
                "loss": nats / count,
                "accuracy": correct / count,
            }
            for index, (count, nats, correct) in enumerate(self.table.tolist())
            if count
        ]


def evaluate_masked(
    model: Model,
    samples: Sequence[EvaluationSample],
    *,
    tokens_per_batch: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> MaskedScores | None:
    """Score a model on evaluation samples.

    Args:
        model: any; its mode is left as it was.
        samples: see :func:`seqmlm.data.samples.evaluation_samples`.
        tokens_per_batch: bounds the memory; the result does not depend on it.
        should_stop: asked after each batch; a stopped evaluation returns None.
    """
    table = torch.zeros(len(model.vocabulary), 3, dtype=torch.float64)
    sequence_nats = torch.zeros(len(samples), dtype=torch.float64)
    with model.inference():
        for chosen, batch, hidden in hidden_states(
            model, [sample.row for sample in samples], tokens_per_batch=tokens_per_batch
        ):
            targets = batch.targets[EVALUATION]
            nats = model.token_head.loss(
                hidden,
                targets.rows,
                targets.labels,
                allowed=targets.allowed,
                allowed_index=targets.allowed_index,
                backend=model.encoder.backend,
            )
            _, best = model.token_head.top_k(
                hidden,
                targets.rows,
                1,
                allowed=targets.allowed,
                allowed_index=targets.allowed_index,
                backend=model.encoder.backend,
            )
            correct = best[:, 0] == targets.labels
            columns = torch.stack([torch.ones_like(nats), nats, correct], dim=1)
            table.index_add_(0, targets.labels.cpu(), columns.double().cpu())
            row = torch.searchsorted(batch.cu_seqlens.long(), targets.rows, right=True) - 1
            owner = torch.tensor(chosen)[row.cpu()]
            sequence_nats.index_add_(0, owner, nats.double().cpu())
            if should_stop():
                return None
    return MaskedScores(table, sequence_nats)
