"""Units chosen in proportion to a score, such as how surprising they are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import EncodingBatch
from seqmlm.errors import ConfigError
from seqmlm.masking.arguments import check_number, check_text
from seqmlm.masking.model_scores import entropy, mean_model_scores, surprisal
from seqmlm.masking.scores import (
    mean_pointwise_mutual_information,
    scores_of_file,
    unigram_surprisal,
)
from seqmlm.masking.selectors import BatchSelector, Selection, positions_of_units
from seqmlm.randomness import Streams

if TYPE_CHECKING:
    from seqmlm.domain import Domain

_OF_DATA: Final = {"surprisal": unigram_surprisal, "pmi": mean_pointwise_mutual_information}
_OF_MODEL: Final = {"model_surprisal": surprisal, "model_entropy": entropy}


class ScoredSelector(BatchSelector):
    """Whole units, drawn without replacement with chances proportional to score ** exponent.

    Gumbel-top-k (Kool et al., arXiv 1903.06059) on exponent * log score: the largest perturbed
    scores first, until the budget is spent; the last unit is taken with probability left / cost,
    so in sequences of a few units long ones are chosen less than their score says. The score of a
    unit is the sum over its tokens; units of equal score, 0 included, are in random order. A high
    score is a strong signal, not proof that it can be learned: compare runs by the uniform
    validation loss.

    Args:
        scores: ``surprisal`` (minus the log of a token's frequency in the training data, nats,
            with one added to every count), ``pmi`` (see
            :func:`~seqmlm.masking.scores.mean_pointwise_mutual_information`), ``model_surprisal``
            or ``model_entropy`` (see :func:`~seqmlm.masking.model_scores.mean_model_scores`), or
            the path of a table ``token TAB score`` that has every token of the domain's range.
        exponent: 0 orders the units uniformly; larger values prefer high scores more strongly.
        model: folder of the trained run whose surprisal or entropy is the score.

    Raises:
        ConfigError: the exponent is negative or not finite, or ``model`` is missing or unused.
    """

    def __init__(
        self, scores: str = "surprisal", exponent: float = 1.0, model: str | None = None
    ) -> None:
        check_number("scored selector: exponent", exponent, high=math.inf)
        check_text("scored selector: scores", scores, "what to score by, or the path of a file")
        if model is not None:
            check_text("scored selector: model", model, "the folder of a trained run")
        if (scores in _OF_MODEL) != (model is not None):
            raise ConfigError(
                f"scored selector: scores = {scores!r} with model = {model!r}; "
                f"{' and '.join(_OF_MODEL)} need the folder of a trained run, such as "
                "model = 'runs/first', and the others take none."
            )
        self._source, self._path, self._exponent = scores, Path(scores), exponent
        self._model = None if model is None else Path(model)
        self._scores: npt.NDArray[np.float64] | None = None

    def fit(
        self, domain: Domain, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]
    ) -> None:
        """See :class:`~seqmlm.masking.fitting.Fitted`."""
        if self._model is not None:
            measure = _OF_MODEL[self._source]
            self._scores = mean_model_scores(domain, sequences, model=self._model, measure=measure)
        elif self._source in _OF_DATA:
            self._scores = _OF_DATA[self._source](domain, sequences)
        else:
            self._scores = scores_of_file(domain, self._path)

    def select_in_batch(
        self,
        batch: EncodingBatch,
        costs: npt.NDArray[np.int64],
        budgets: npt.NDArray[np.int64],
        streams: Streams,
    ) -> Selection:
        """See :meth:`BatchSelector.select_in_batch`.

        Raises:
            ConfigError: :meth:`fit` was not called.
        """
        if self._scores is None:
            raise ConfigError("scored selector: call Objective.fit with the training data first.")
        maskable = batch.unit_ids >= 0
        scores = np.bincount(
            batch.unit_ids[maskable],
            weights=self._scores[batch.ids[maskable]],
            minlength=len(costs),
        )
        with np.errstate(divide="ignore"):  # a number of 0, or a score of 0: chosen last
            noise = keys = -np.log(-np.log(1 - streams.uniform(batch.num_units)))
            if self._exponent:  # 0 * log 0 would be NaN
                keys = noise + self._exponent * np.log(scores)
        # Equal keys, as those of score 0, are ordered by the noise.
        order = np.lexsort((-noise, -keys, batch.encoding_of_unit))
        chosen = order[_within_budget(batch, costs[order], budgets, streams)]
        group_of_unit = np.full(len(costs), -1)
        group_of_unit[chosen] = chosen
        return positions_of_units(batch, group_of_unit)


def _within_budget(
    batch: EncodingBatch,
    costs: npt.NDArray[np.int64],
    budgets: npt.NDArray[np.int64],
    streams: Streams,
) -> npt.NDArray[np.bool_]:
    """Which of the ordered units are taken from the front until the budget is spent.

    The one that would exceed it is taken with probability left / cost: the expected cost is exact.
    """
    sequence = batch.encoding_of_unit
    spent = np.concatenate([[0], np.cumsum(costs)])
    before_sequence = spent[np.cumsum(batch.num_units) - batch.num_units]
    left = (budgets + before_sequence)[sequence] - spent[:-1]
    rounding = streams.uniform(np.ones(len(batch), np.int64))[sequence]
    is_taken: npt.NDArray[np.bool_] = rounding * costs < left
    return is_taken
