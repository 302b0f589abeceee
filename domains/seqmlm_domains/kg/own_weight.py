"""How much an entity's own token counts against its text, found on validation triples."""

from __future__ import annotations

from typing import Final

from seqmlm_domains.kg.link_scores import LinkScorer, ranks_by_scorer
from seqmlm_domains.kg.metrics import RankMetrics, joined
from seqmlm_domains.kg.ranking import Ranks, Triples

OWN_WEIGHTS: Final = (0.0, 0.25, 0.5, 0.7, 0.85, 0.95, 1.0)
"""The weights that are tried."""


def with_best_own_weight(
    scorer: LinkScorer, triples: Triples, *, known_triples: Triples
) -> tuple[LinkScorer, Ranks]:
    """Choose the weight of own tokens by the filtered MRR of validation triples.

    Where entities have a text or an own token alone there is nothing to choose. Cost: an encoder
    pass for each query, and a ranking for each of :data:`OWN_WEIGHTS`.

    Args:
        scorer: of the entities; its own weight is left as it is if there is no triple.
        triples: int64 ``[n, 3]``.
        known_triples: int64 ``[m, 3]``, whose answers are no candidates.

    Returns:
        The scorer with the best weight, the largest of equals, and its ranks of the triples.
    """
    scorers = [scorer]
    if scorer.domain.options["entities"] == "both" and len(triples):
        scorers = [scorer.with_own_weight(weight) for weight in OWN_WEIGHTS]
    found = ranks_by_scorer(
        scorer, triples, known_triples=known_triples, scorers=[each.scorer for each in scorers]
    )
    ranks = [joined(each) for each in found]
    mrr = [RankMetrics.of(each.realistic, each.candidates).mrr for each in ranks]
    best = max(reversed(range(len(scorers))), key=mrr.__getitem__)
    return scorers[best], ranks[best]
