"""Scores of links from a model that nobody trained: what is the same however it is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from seqmlm_domains.kg.linearisation import UNKNOWN_ENTITY, Part
from seqmlm_domains.kg.link_scores import LinkScorer, numbered, ranks_of, scores_of
from seqmlm_domains.kg.scorer import Normalise
from tests.kg.conftest import FAMILY, BuildScorer

BOTH_PARTS = (Part.HEAD, Part.TAIL)


@pytest.mark.parametrize("entities", ["tokens", "id", "both"])
@pytest.mark.parametrize("missing", BOTH_PARTS, ids=["head", "tail"])
def test_the_slots_of_a_query_are_likelihoods(
    entities: str, missing: Part, build_scorer: BuildScorer
) -> None:
    scorer = build_scorer(entities=entities, end="pad")
    columns = scorer.columns(missing, np.array([[0, 0], [2, 1]]))
    slots = torch.from_numpy(scorer.scorer.slots)
    for slot in sorted(set(slots.tolist())):
        total = columns[slots == slot].exp().sum(0)
        assert (total <= 1 + 1e-5).all()
    if entities != "tokens":  # all entities have a token, and nothing else may stand there
        assert torch.allclose(columns[slots == 0].exp().sum(0), torch.ones(2), atol=1e-5)


def test_relations_share_all_the_probability(build_scorer: BuildScorer) -> None:
    likelihoods = build_scorer().relation_log_likelihoods(np.array([[0, 1], [2, 0]]))
    assert torch.allclose(likelihoods.exp().sum(1), torch.ones(2), atol=1e-5)


def test_pmi_is_the_mean_less_that_of_a_query_without_its_entity(build_scorer: BuildScorer) -> None:
    mean, pmi = build_scorer("mean"), build_scorer("pmi")
    known = np.array([[0, 0], [1, 0], [2, 1]])
    for missing in BOTH_PARTS:
        informed = mean.scorer.score(mean.columns(missing, known))
        unknown = np.array([[UNKNOWN_ENTITY, relation] for _, relation in known.tolist()])
        uninformed = mean.scorer.score(mean.columns(missing, unknown))
        found = pmi.scorer.score(pmi.columns(missing, known))
        assert torch.allclose(found, informed - uninformed, atol=1e-5)


def test_an_uninformed_query_is_asked_once_for_each_relation_and_direction(
    build_scorer: BuildScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = build_scorer("pmi")
    asked = []
    encodings = LinkScorer.encodings

    def counted(self: LinkScorer, missing: Part, entity: int, relation: int) -> Any:
        if entity == UNKNOWN_ENTITY:
            asked.append((missing, relation))
        return encodings(self, missing, entity, relation)

    monkeypatch.setattr(LinkScorer, "encodings", counted)
    for _ in range(3):
        scorer.columns(Part.TAIL, np.array([[0, 0], [1, 0], [2, 1]]))
        scorer.columns(Part.HEAD, np.array([[0, 0]]))
    assert sorted(asked) == [(Part.HEAD, 0), (Part.TAIL, 0), (Part.TAIL, 1)]


@pytest.mark.parametrize("normalise", ["mean", "sum", "pmi"])
def test_scores_of_triples_are_those_of_all_entities(
    normalise: Normalise, build_scorer: BuildScorer
) -> None:
    scorer = build_scorer(normalise)
    triples = numbered(scorer.domain, [*FAMILY, FAMILY[0]])
    for missing, other in ((Part.HEAD, Part.TAIL), (Part.TAIL, Part.HEAD)):
        scores = scores_of(scorer, triples, missing)
        assert scores[0] == scores[-1]
        columns = scorer.columns(missing, triples[:, [other, Part.RELATION]])
        everything = scorer.scorer.score(columns).numpy()
        expected = everything[triples[:, missing], np.arange(len(triples))]
        assert np.allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_ranks_do_not_depend_on_the_size_of_the_chunks(
    chunk: int, build_scorer: BuildScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = build_scorer()
    triples = numbered(scorer.domain, FAMILY)
    whole = ranks_of(scorer, triples, known_triples=triples)
    monkeypatch.setattr("seqmlm_domains.kg.ranking.ENTITIES_PER_CHUNK", chunk)
    parts = ranks_of(scorer, triples, known_triples=triples)
    for missing in BOTH_PARTS:
        for name in ("optimistic", "pessimistic", "candidates"):
            assert np.array_equal(getattr(parts[missing], name), getattr(whole[missing], name))
