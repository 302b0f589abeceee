"""What judges a link prediction model while it trains: filtered ranks of held-out triples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm.data.store import TokenStore
from seqmlm.model.model import Model
from seqmlm_domains.kg.domain import require_graph_domain
from seqmlm_domains.kg.link_scores import LinkScorer
from seqmlm_domains.kg.metrics import RankMetrics
from seqmlm_domains.kg.own_weight import with_best_own_weight
from seqmlm_domains.kg.predictor_folder import triples_of_store

MOST_TRIPLES: Final = 1000
"""Held-out triples that are ranked at each evaluation; a fixed sample of more."""


def ranking_measures(
    model: Model, store: TokenStore, records: npt.NDArray[np.int64], *, max_length: int
) -> Mapping[str, float]:
    """Return realistic filtered ``mrr`` and hits of held-out triples, head and tail together.

    Known answers are those of the training and held-out triples: test triples play no part. Where
    entities have both an own token and a text, ``own_weight`` is the weight that ranks them best.
    Cost: an encoder pass for each of at most 2 x :data:`MOST_TRIPLES` queries.

    Args:
        model: of the domain ``kg``.
        store: training and held-out triples.
        records: int64, the held-out ones; at least one.
        max_length: tokens of a query at most, as in training.
    """
    domain = require_graph_domain(model.domain)
    known = triples_of_store(store, num_relations=len(domain.graph.relations))
    is_held_out = np.zeros(len(store), np.bool_)
    is_held_out[records] = True
    asked = known[is_held_out[store.lengths > 0]]
    if len(asked) > MOST_TRIPLES:
        asked = asked[np.random.default_rng(0).permutation(len(asked))[:MOST_TRIPLES]]
    scorer = LinkScorer.of(model, max_length=max_length)
    scorer, ranks = with_best_own_weight(scorer, asked, known_triples=known)
    found = RankMetrics.of(ranks.realistic, ranks.candidates)
    weight = {} if scorer.own_weight is None else {"own_weight": scorer.own_weight}
    return weight | {
        "mrr": found.mrr,
        "hits_at_1": found.hits_at_1,
        "hits_at_3": found.hits_at_3,
        "hits_at_10": found.hits_at_10,
    }
