"""The weight of own tokens that ranks validation triples best."""

from __future__ import annotations

import pytest
import torch

from seqmlm_domains.kg.link_scores import LinkScorer, numbered, ranks_of
from seqmlm_domains.kg.metrics import joined
from seqmlm_domains.kg.own_weight import OWN_WEIGHTS, with_best_own_weight
from tests.kg.conftest import FAMILY, BuildScorer


def test_ranks_are_those_of_the_weight_that_is_chosen(build_scorer: BuildScorer) -> None:
    scorer = build_scorer(entities="both")
    triples = numbered(scorer.domain, FAMILY)
    chosen, ranks = with_best_own_weight(scorer, triples, known_triples=triples)
    assert chosen.own_weight in OWN_WEIGHTS
    by_weight = {
        weight: joined(
            ranks_of(scorer.with_own_weight(weight), triples, known_triples=triples)
        ).realistic
        for weight in OWN_WEIGHTS
    }
    assert by_weight[chosen.own_weight].tolist() == ranks.realistic.tolist()
    best = max((1 / found).mean() for found in by_weight.values())
    assert (1 / ranks.realistic).mean() == best


def test_own_tokens_that_know_the_answers_get_all_the_weight(build_scorer: BuildScorer) -> None:
    """Every slot but the first is made to prefer one word, so that text says nothing."""
    scorer = build_scorer(entities="both")
    triples = numbered(scorer.domain, FAMILY)
    layout = scorer.scorer

    def columns(missing: int, known: object) -> torch.Tensor:
        values = torch.full((len(layout.slots), len(known)), -1.0)  # type: ignore[arg-type]
        asked = triples[:, [2 - missing, 1]]
        for column, query in enumerate(known):  # type: ignore[arg-type, var-annotated]
            for answer in triples[(asked == query).all(1), missing]:
                entry = int(layout.entries[int(layout.offsets[answer])])
                values[entry, column] = -0.1
            values[layout.slots > 0, column] = torch.randn(
                int((layout.slots > 0).sum()), generator=torch.Generator().manual_seed(column)
            )
        return values

    object.__setattr__(scorer, "columns", columns)
    chosen, ranks = with_best_own_weight(scorer, triples, known_triples=triples)
    assert ranks.realistic.tolist() == [1.0] * len(ranks.realistic)
    assert chosen.own_weight is not None
    assert chosen.own_weight >= OWN_WEIGHTS[1]


@pytest.mark.parametrize("entities", ["id", "tokens"])
def test_nothing_is_chosen_where_entities_are_written_in_one_way(
    entities: str, build_scorer: BuildScorer
) -> None:
    scorer = build_scorer(entities=entities)
    triples = numbered(scorer.domain, FAMILY)
    chosen, _ = with_best_own_weight(scorer, triples, known_triples=triples)
    assert chosen.own_weight is None


def test_without_validation_triples_all_tokens_count_alike(build_scorer: BuildScorer) -> None:
    scorer: LinkScorer = build_scorer(entities="both")
    none = numbered(scorer.domain, [])
    chosen, ranks = with_best_own_weight(scorer, none, known_triples=none)
    assert chosen.own_weight is None
    assert len(ranks.realistic) == 0
