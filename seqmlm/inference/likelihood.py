"""How probable a model finds a sequence: one masked token at a time, or in one direction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from seqmlm.data.packing import pack
from seqmlm.encoding import Encoding, IntArray
from seqmlm.inference.texts import given_texts
from seqmlm.objectives.clm import causal_row, predictable
from seqmlm.objectives.rows import Direction, Row, Targets
from seqmlm.objectives.trained import (
    causal_direction,
    require_masks,
    require_token_predictions,
)
from seqmlm.vocabulary import AllowedTokens

if TYPE_CHECKING:
    from seqmlm.model.model import Model

TARGETS = "token"


@dataclass(frozen=True, slots=True)
class SequenceScore:
    """The log-likelihood of one sequence, or its pseudo-log-likelihood.

    Args:
        positions: of the scored tokens, special tokens counted, ascending.
        token_log_likelihoods: float64 for each of them, nats.
    """

    positions: tuple[int, ...]
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

    Raises:
        ConfigError: the model does not fill in masks.
    """
    require_masks(model.trained_objectives, "A pseudo-log-likelihood")
    for text in given_texts(texts):
        yield score_encoding(model, model.domain.parse(text), tokens_per_batch=tokens_per_batch)


def score_encoding(model: Model, encoding: Encoding, *, tokens_per_batch: int) -> SequenceScore:
    """Score one encoding as its model was trained to predict.

    A model that fills in masks: log p(token | all others) of every maskable token, each masked
    alone (Salazar et al., arXiv 1910.14659); the sum is a pseudo-log-likelihood. The rows of one
    batch exist at a time: memory does not grow with the square of the length. A causal model:
    log p(token | those before it in its direction) in one pass, of all but the first.

    Raises:
        ConfigError: the model was not trained to predict tokens.
    """
    require_token_predictions(model.trained_objectives)
    direction = causal_direction(model.trained_objectives)
    if direction is not None:
        return _causal_score(model, encoding, direction)
    positions = np.flatnonzero(encoding.unit_ids >= 0).astype(np.int32)
    rows_per_batch = max(1, tokens_per_batch // len(encoding))
    scores: list[float] = []
    with model.inference():
        for start in range(0, len(positions), rows_per_batch):
            chosen = positions[start : start + rows_per_batch]
            rows = [_row_with_mask(model, encoding, position) for position in chosen]
            scores += _log_probabilities(model, rows)
    return SequenceScore(tuple(positions.tolist()), tuple(scores))


def scored_causally(model: Model, encoding: Encoding, direction: Direction) -> tuple[Row, IntArray]:
    """Return the row of a causal model, and the positions, int32 ``[m]``, that are its targets."""
    low, high = model.vocabulary.ranges[model.domain.name]
    allowed = AllowedTokens.of(range(low, high), len(model.vocabulary))
    predicted = predictable(encoding, direction)
    row = causal_row(encoding, direction, name=TARGETS, predicted=predicted, allowed=allowed)
    return row, predicted


def _causal_score(model: Model, encoding: Encoding, direction: Direction) -> SequenceScore:
    row, predicted = scored_causally(model, encoding, direction)
    with model.inference():
        return SequenceScore(tuple(predicted.tolist()), tuple(_log_probabilities(model, [row])))


def _row_with_mask(model: Model, encoding: Encoding, position: np.int32) -> Row:
    ids = encoding.ids.copy()
    ids[position] = model.vocabulary.special.mask
    where = np.array([position], np.int32)
    return Row.of(encoding, ids, {TARGETS: Targets(where, encoding.ids[where])})


def _log_probabilities(model: Model, rows: Sequence[Row]) -> list[float]:
    """Of the targets of all rows, nats."""
    batch = pack(rows).to(model.device)
    targets = batch.targets[TARGETS]
    found = model.log_probabilities_at(batch, targets, targets.labels)
    values: list[float] = found.to(torch.float64).tolist()
    return values
