"""Units chosen in proportion to a score, such as how surprising they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError
from seqmlm.masking.model_scores import entropy, mean_model_scores, surprisal
from seqmlm.masking.scores import (
    mean_pointwise_mutual_information,
    scores_of_file,
    unigram_surprisal,
)
from seqmlm.masking.selectors import Selection, units_in_order

if TYPE_CHECKING:
    from seqmlm.domain import Domain

_OF_DATA: Final = {"surprisal": unigram_surprisal, "pmi": mean_pointwise_mutual_information}
_OF_MODEL: Final = {"model_surprisal": surprisal, "model_entropy": entropy}


class ScoredSelector:
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
        if not 0 <= exponent < np.inf:
            raise ConfigError(f"scored selector: exponent = {exponent}; it is 0 or more.")
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

    def select(
        self,
        encoding: Encoding,
        costs: npt.NDArray[np.int64],
        budget: int,
        generator: np.random.Generator,
    ) -> Selection:
        """See :meth:`Selector.select`.

        Raises:
            ConfigError: :meth:`fit` was not called.
        """
        if self._scores is None:
            raise ConfigError("scored selector: call Objective.fit with the training data first.")
        maskable = encoding.unit_ids >= 0
        scores = np.bincount(
            encoding.unit_ids[maskable],
            weights=self._scores[encoding.ids[maskable]],
            minlength=len(costs),
        )
        noise = generator.gumbel(size=len(costs))
        keys = noise
        if self._exponent:  # 0 * log 0 would be NaN; a score of 0 is chosen last
            with np.errstate(divide="ignore"):
                keys = noise + self._exponent * np.log(scores)
        order = np.lexsort((-noise, -keys))  # equal keys, as those of score 0, by the noise
        return units_in_order(encoding, order, costs, budget, generator)
