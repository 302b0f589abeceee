"""Units chosen in proportion to a score, such as how surprising they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError, DataError
from seqmlm.masking.selectors import Selection, units_in_order
from seqmlm.masking.table_file import positive_number, read_table

if TYPE_CHECKING:
    from seqmlm.domain import Domain

SURPRISAL = "surprisal"


class ScoredSelector:
    """Whole units, drawn without replacement with chances proportional to score ** exponent.

    Gumbel-top-k (Kool et al., arXiv 1903.06059) on exponent * log score: the largest perturbed
    scores first, until the budget is spent; the last unit is taken with probability left / cost.
    The score of a unit is the sum over its tokens. A high score is a strong signal, not proof
    that it can be learned: compare runs by the uniform validation loss.

    Args:
        scores: ``surprisal`` (minus the log of a token's frequency in the training data, nats,
            with one added to every count), or the path of a table ``token TAB score`` that has
            every token of the domain's range.
        exponent: 0 chooses uniformly; larger values prefer high scores more strongly.

    Raises:
        ConfigError: the exponent is negative or not finite.
    """

    def __init__(self, scores: str = SURPRISAL, exponent: float = 1.0) -> None:
        if not 0 <= exponent < np.inf:
            raise ConfigError(f"scored selector: exponent = {exponent}; it is 0 or more.")
        self._source, self._exponent = scores, exponent
        self._scores: npt.NDArray[np.float64] | None = None

    def fit(
        self, domain: Domain, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]
    ) -> None:
        """See :class:`~seqmlm.masking.fitting.Fitted`."""
        if self._source == SURPRISAL:
            self._scores = unigram_surprisal(domain, sequences)
        else:
            self._scores = _read_scores(domain, Path(self._source))

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
        keys = generator.gumbel(size=len(costs))
        if self._exponent:  # 0 * log 0 would be NaN; a score of 0 is chosen last
            with np.errstate(divide="ignore"):
                keys += self._exponent * np.log(scores)
        return units_in_order(encoding, np.argsort(-keys), costs, budget, generator)


def unigram_surprisal(
    domain: Domain, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]
) -> npt.NDArray[np.float64]:
    """Return -log frequency of every token of the domain's range, nats; 0 outside it.

    Args:
        domain: gives vocabulary and range.
        sequences: stored tokens.

    Returns:
        float64 ``[vocabulary]``. One is added to every count.
    """
    size = len(domain.vocabulary)
    counts = np.zeros(size)
    for tokens in sequences:
        counts += np.bincount(domain.token_ids(tokens), minlength=size)
    low, high = domain.vocabulary.ranges[domain.name]
    surprisal = np.zeros(size)
    surprisal[low:high] = -np.log((counts[low:high] + 1) / (counts[low:high] + 1).sum())
    return surprisal


def _read_scores(domain: Domain, path: Path) -> npt.NDArray[np.float64]:
    vocabulary = domain.vocabulary
    scores = np.zeros(len(vocabulary))
    for place, fields in read_table(path, columns="token TAB score"):
        if len(fields) != 2:
            raise DataError(f"{place}: {len(fields)} fields; a line is token TAB score.")
        if fields[0] not in vocabulary:
            raise DataError(f"{place}: {fields[0]!r} is no token of domain {domain.name!r}.")
        scores[vocabulary.id_of(fields[0])] = positive_number(fields[1], place)
    low, high = vocabulary.ranges[domain.name]
    missing = low + np.flatnonzero(scores[low:high] == 0)
    if len(missing):
        raise DataError(
            f"{path}: {len(missing):,} of {high - low:,} tokens have no score, the first is "
            f"{vocabulary.tokens[missing[0]]!r}. Every token of the range needs one."
        )
    return scores
