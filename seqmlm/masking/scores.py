"""Scores of tokens that a selector can prefer: how surprising or how telling each one is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqmlm.errors import DataError
from seqmlm.masking.cooccurrence import cooccurrences
from seqmlm.masking.fitting import maskable_tokens
from seqmlm.masking.table_file import positive_number, read_table

if TYPE_CHECKING:
    from seqmlm.domain import Domain

Scores = npt.NDArray[np.float64]
Sequences = Iterable[npt.NDArray[np.unsignedinteger[Any]]]

PMI_WINDOW = 5
"""Tokens on either side that count as neighbours."""

PRIOR_NEIGHBOURS = 10
"""Neighbours drawn from all of the data that are added to those of each token."""


def unigram_surprisal(domain: Domain, sequences: Sequences) -> Scores:
    """Return -log frequency of every token of the domain's range, nats; 0 outside it.

    Args:
        domain: gives vocabulary and range.
        sequences: stored tokens; all are read.

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


def mean_pointwise_mutual_information(domain: Domain, sequences: Sequences) -> Scores:
    """Return how much each token says about its neighbours, nats.

    The score of token w is the mean over its neighbours v of their pointwise mutual information,
    ``sum_v p(v | w) log(p(v | w) / p(v))``: the divergence of its neighbours from the usual ones,
    0 or more. Neighbours are the maskable tokens of other units within 5 places; those outside the
    1,000 most frequent tokens count as one. Ten neighbours of the usual kind are added to each
    token's, so that what was seen once is not taken for telling.

    After InforMask (Sadeq et al., arXiv 2210.11771), which sums the information between the hidden
    and the visible words of a sentence for many drawn masks and takes the best one. Deviation:
    a score belongs to a token whatever the sentence, so that choosing costs no more than at
    random; the chance is proportional to it, not all or nothing. PMI-masking (Levine et al., arXiv
    2010.01825) hides n-grams of high mutual information together, which this does not.

    Args:
        domain: gives vocabulary and units.
        sequences: stored tokens; the first two million are read, in about a second a million.

    Returns:
        float64 ``[vocabulary]``; 0 for tokens without neighbours. Memory: 4 kB a token.
    """
    frequencies = np.zeros(len(domain.vocabulary), np.int64)
    for ids, _ in maskable_tokens(domain, sequences):
        frequencies += np.bincount(ids, minlength=len(frequencies))
    counts = cooccurrences(maskable_tokens(domain, sequences), frequencies, window=PMI_WINDOW)
    total = counts.sum(axis=0, dtype=np.float64)
    if not total.any():
        return np.zeros(len(frequencies))
    usual = total / total.sum()
    scores = np.zeros(len(frequencies))
    for token in np.flatnonzero(frequencies):  # row by row: the matrix is large
        near = counts[token] + PRIOR_NEIGHBOURS * usual
        share = near / near.sum()
        seen = share > 0
        scores[token] = np.sum(share[seen] * np.log(share[seen] / usual[seen]))
    return np.maximum(scores, 0)  # rounding may leave -1e-17


def scores_of_file(domain: Domain, path: Path) -> Scores:
    """Read lines of ``token TAB score``, one for every token of the domain's range.

    Returns:
        float64 ``[vocabulary]``; 0 outside the range.

    Raises:
        DataError: the file cannot be used; names the line.
    """
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
