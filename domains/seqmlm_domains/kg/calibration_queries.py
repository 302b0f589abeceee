"""Validation triples as queries to calibrate a link predictor on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch

from seqmlm_domains.kg.answers import KNOWN_PARTS, KnownAnswers
from seqmlm_domains.kg.calibration import Calibration, ScoredQueries, fit_calibration
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.link_scores import QUERIES_PER_BATCH, LinkScorer
from seqmlm_domains.kg.masked_relation import has_learned_relations
from seqmlm_domains.kg.ranking import ENTITIES_PER_CHUNK, Triples

MOST_TRIPLES: Final = 250
"""Validation triples that take part, evenly spread; each asks for its head and its tail."""

MOST_SCORES: Final = 2**25
"""Scores held at once, which is 128 MiB; with many entities fewer triples take part."""

FEWEST_TRIPLES: Final = 25


def calibrate_entities(
    scorer: LinkScorer, triples: Triples, *, excluded: Mapping[Part, KnownAnswers]
) -> Calibration:
    """Fit the probabilities of heads and tails.

    Args:
        scorer: of the entities.
        triples: int64 ``[n, 3]``, of validation.
        excluded: by part, answers that are no candidates; that of the query itself is.
    """
    fitting = max(FEWEST_TRIPLES, MOST_SCORES // (2 * max(scorer.scorer.num_entities, 1)))
    chosen = evenly(triples, min(MOST_TRIPLES, fitting))
    parts = [_scored(scorer, chosen, part, excluded[part]) for part in (Part.HEAD, Part.TAIL)]
    return fit_calibration(
        ScoredQueries(
            torch.cat(parts, dim=1),
            scorer.lengths.cpu(),
            torch.from_numpy(np.concatenate([chosen[:, Part.HEAD], chosen[:, Part.TAIL]])),
        )
    )


def calibrate_relations(
    scorer: LinkScorer, triples: Triples, *, excluded: KnownAnswers
) -> Calibration:
    """Fit the probabilities of relations, if the model learned to predict any.

    See :func:`calibrate_entities`.
    """
    if not has_learned_relations(scorer.model):
        return Calibration()
    chosen = evenly(triples, MOST_TRIPLES)
    scores = torch.empty(len(scorer.domain.graph.relations), len(chosen))
    for start in range(0, len(chosen), QUERIES_PER_BATCH):
        asked = chosen[start : start + QUERIES_PER_BATCH, [Part.HEAD, Part.TAIL]]
        scores[:, start : start + len(asked)] = scorer.relation_log_likelihoods(asked).T.cpu()
    _exclude(scores, chosen, Part.RELATION, excluded)
    lengths = torch.ones(len(scores), dtype=torch.int64)
    answers = torch.from_numpy(chosen[:, Part.RELATION].copy())
    return fit_calibration(ScoredQueries(scores, lengths, answers))


def _scored(
    scorer: LinkScorer, triples: Triples, missing: Part, excluded: KnownAnswers
) -> torch.Tensor:
    """Scores of all entities for each triple, float32 ``[entities, triples]``."""
    scores = torch.empty(scorer.scorer.num_entities, len(triples))
    for start in range(0, len(triples), QUERIES_PER_BATCH):
        asked = triples[start : start + QUERIES_PER_BATCH, list(KNOWN_PARTS[missing])]
        columns = scorer.columns(missing, asked)
        for first in range(0, len(scores), ENTITIES_PER_CHUNK):
            rows = slice(first, min(first + ENTITIES_PER_CHUNK, len(scores)))
            found = scorer.scorer.score(columns, rows)
            scores[rows, start : start + len(asked)] = found.cpu()
    _exclude(scores, triples, missing, excluded)
    return scores


def _exclude(scores: torch.Tensor, triples: Triples, missing: Part, excluded: KnownAnswers) -> None:
    """Make every other known answer no candidate, in place."""
    for column, triple in enumerate(triples):
        others = excluded(triple[list(KNOWN_PARTS[missing])])
        scores[others[others != triple[missing]], column] = -torch.inf


def evenly(triples: Triples, most: int) -> Triples:
    """Return at most so many triples, evenly spread over all."""
    count = min(len(triples), most)
    return triples[np.arange(count) * len(triples) // max(count, 1)]
