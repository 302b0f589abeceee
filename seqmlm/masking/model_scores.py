"""Scores of tokens by a trained model: what it finds hard is hidden more often."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqmlm.errors import ConfigError
from seqmlm.masking.policy import UNIFORM_MASKS
from seqmlm.randomness import Purpose, stream

if TYPE_CHECKING:
    from torch import Tensor

    from seqmlm.domain import Domain
    from seqmlm.model.model import Model
    from seqmlm.objectives.rows import Row

MEASURED_TOKENS = 300_000
"""Tokens of the first training records that the model reads; it predicts 15 % of them."""

LONGEST_RECORD = 512
"""Tokens of a record that the model reads, special tokens included."""

TOKENS_PER_BATCH = 4_096
_TARGETS = "scores"
_logger = logging.getLogger("seqmlm")

Measure = Callable[["Tensor", "Tensor"], "Tensor"]
"""Log-probabilities ``[m, range]`` and the true tokens ``[m]``, counted from the range's start, to
values ``[m]``."""


def surprisal(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return -log p of the true tokens, nats."""
    return -log_probabilities.gather(1, labels[:, None])[:, 0]


def entropy(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the entropy of the predictions, nats; the true tokens play no part."""
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1)


def mean_model_scores(
    domain: Domain,
    sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]],
    *,
    model: Path,
    measure: Measure,
) -> npt.NDArray[np.float64]:
    """Return the mean of a measure over the places where each token was hidden, nats.

    One forward pass of a trained model over the first training records, with the masks of a
    validation: a uniform 15 %, always the same ones. A token that was hidden k times gets the mean
    of k + 1 values, one of them the mean over all tokens; so one that was never hidden is neither
    preferred nor avoided. Deviation from entropy-aware masking with the model that is trained: the
    scores belong to tokens, not to places, and stay the same over the run.

    Args:
        domain: of the run that is about to start.
        sequences: stored tokens.
        model: folder of a run, or of an exported model, with the vocabulary of ``domain``. It reads
            at most 300,000 tokens, on the CPU.
        measure: :func:`surprisal` or :func:`entropy`.

    Returns:
        float64 ``[vocabulary]``; 0 outside the domain's range.

    Raises:
        CheckpointError: there is no model in the folder.
        ConfigError: the model does not fill in masks, the vocabularies differ, or no training token
            can be hidden.
    """
    # The model imports the objectives, and they the policies: here only when it is needed.
    from seqmlm.inference.batches import hidden_states
    from seqmlm.model.model import Model
    from seqmlm.objectives.trained import require_masks

    trained = Model.load(model)
    require_masks(trained.trained_objectives, f"A scored selector with the model in {model}")
    if trained.vocabulary.fingerprint() != domain.vocabulary.fingerprint():
        raise ConfigError(
            f"scored selector: the model in {model} has another vocabulary than this run "
            f"({len(trained.vocabulary):,} and {len(domain.vocabulary):,} tokens). Train it on the "
            "same data with the same [domain] options."
        )
    low, high = domain.vocabulary.ranges[domain.name]
    totals, counts = np.zeros(high - low), np.zeros(high - low)
    rows = _masked_rows(domain, sequences, trained)
    with trained.inference():
        for _, batch, hidden in hidden_states(trained, rows, tokens_per_batch=TOKENS_PER_BATCH):
            targets = batch.targets[_TARGETS]
            labels = targets.labels.long() - low
            values = measure(_log_probabilities(trained, hidden, targets.rows), labels).numpy()
            totals += np.bincount(labels.numpy(), weights=values, minlength=high - low)
            counts += np.bincount(labels.numpy(), minlength=high - low)
    if not counts.any():
        raise ConfigError("scored selector: no token of the training data can be hidden.")
    scores = np.zeros(len(domain.vocabulary))
    scores[low:high] = (totals + totals.sum() / counts.sum()) / (counts + 1)
    _logger.info(
        "scores of %s: %s hidden tokens; %s of %s tokens of the vocabulary were never among them "
        "and get the mean",
        *(model, *(f"{int(n):,}" for n in (counts.sum(), (counts == 0).sum(), high - low))),
    )
    return scores


def _masked_rows(
    domain: Domain, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]], model: Model
) -> list[Row]:
    """First window of each record, a uniform 15 % hidden, until enough tokens are there."""
    from seqmlm.objectives.rows import Row, Targets

    longest = min(LONGEST_RECORD, model.encoder.config.longest_sequence or LONGEST_RECORD)
    rows: list[Row] = []
    tokens_left = MEASURED_TOKENS
    for number, tokens in enumerate(sequences):
        if tokens_left <= 0:
            break
        encoding = domain.assemble(tokens, max_length=longest)
        tokens_left -= len(encoding)
        masked = UNIFORM_MASKS.apply(
            encoding,
            vocabulary=domain.vocabulary,
            token_range=domain.vocabulary.ranges[domain.name],
            generator=stream(0, Purpose.EVALUATION, sample=number),
        )
        targets = Targets(masked.positions, encoding.ids[masked.positions])
        rows.append(Row.of(encoding, masked.ids, {_TARGETS: targets}))
    return rows


def _log_probabilities(model: Model, hidden: Tensor, rows: Tensor) -> Tensor:
    """Log p of every token of the domain's range, ``[m, range]``."""
    import torch

    low, high = model.vocabulary.ranges[model.domain.name]
    every_token = torch.arange(low, high, dtype=torch.int32).expand(len(rows), -1)
    return model.token_head.log_probabilities(
        hidden, rows, every_token, allowed=model.allowed_tokens, backend=model.encoder.backend
    )
