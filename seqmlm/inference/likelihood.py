"""How probable a model finds a sequence, one masked token at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seqmlm.data.packing import pack
from seqmlm.encoding import Encoding
from seqmlm.objectives.rows import Row, Targets

if TYPE_CHECKING:
    from seqmlm.model.model import Model

TARGETS = "token"


@dataclass(frozen=True, slots=True)
class SequenceScore:
    """The pseudo-log-likelihood of one sequence.

    Args:
        token_log_likelihoods: float64 per maskable token, nats, in order.
    """

    token_log_likelihoods: tuple[float, ...]

    @property
    def total(self) -> float:
        """Sum over the scored tokens, nats."""
        return math.fsum(self.token_log_likelihoods)

    @property
    def perplexity(self) -> float:
        """exp(-mean); NaN when no token can be scored."""
        if not self.token_log_likelihoods:
            return math.nan
        return math.exp(-self.total / len(self.token_log_likelihoods))


def pseudo_log_likelihood(
    model: Model, texts: Sequence[str], *, tokens_per_batch: int
) -> Iterator[SequenceScore]:
    """Score each text by masking each of its maskable tokens alone.

    Cost: one row of the text's length per maskable token.
    """
    for text in texts:
        yield score_encoding(model, model.domain.parse(text), tokens_per_batch=tokens_per_batch)


def score_encoding(model: Model, encoding: Encoding, *, tokens_per_batch: int) -> SequenceScore:
    """Score one encoding; see :func:`pseudo_log_likelihood`.

    The rows of one batch exist at a time: memory does not grow with the square of the length.
    """
    model.require_token_head()
    positions = np.flatnonzero(encoding.unit_ids >= 0).astype(np.int32)
    rows_per_batch = max(1, tokens_per_batch // len(encoding))
    scores: list[float] = []
    with model.inference():
        for start in range(0, len(positions), rows_per_batch):
            chosen = positions[start : start + rows_per_batch]
            batch = pack([_row_with_mask(model, encoding, position) for position in chosen])
            batch = batch.to(model.device)
            targets = batch.targets[TARGETS]
            scores += _log_probabilities(model, model(batch), targets.rows, targets.labels).tolist()
    return SequenceScore(tuple(scores))


def _row_with_mask(model: Model, encoding: Encoding, position: np.int32) -> Row:
    ids = encoding.ids.copy()
    ids[position] = model.vocabulary.special.mask
    where = np.array([position], np.int32)
    return Row.of(encoding, ids, {TARGETS: Targets(where, encoding.ids[where])})


def _log_probabilities(model: Model, hidden: Tensor, rows: Tensor, ids: Tensor) -> Tensor:
    return model.token_head.log_probabilities(
        hidden, rows, ids, allowed=model.allowed_tokens, backend=model.encoder.backend
    ).to(torch.float64)
