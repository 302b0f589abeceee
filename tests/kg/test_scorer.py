from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqmlm_domains.kg.domain import KnowledgeGraphDomain
from seqmlm_domains.kg.scorer import EntityScorer, padded_mean
from seqmlm_domains.kg.triples import NameAndDescription

BuildDomain = Any
REPRESENTATIONS = ("tokens", "id", "both")
ENDS = ("ignore", "eos", "pad")
VARIANTS = list(itertools.product(REPRESENTATIONS, ENDS))

TRIPLES = [(f"entity_{i}", "r", f"the {'very ' * (i % 4)}long name {i}") for i in range(12)]
ADDED = {
    "new one": NameAndDescription(""),
    "long name of one that is new": NameAndDescription("", "described"),
}


def likelihoods(domain: KnowledgeGraphDomain, queries: int = 5) -> Tensor:
    """Made-up log-probabilities, float32 ``[queries, slots, vocabulary]``."""
    generator = torch.Generator().manual_seed(0)
    shape = (queries, domain.linearisation.slots.total, len(domain.vocabulary))
    return torch.randn(shape, generator=generator).log_softmax(-1)


def columns(scorer: EntityScorer, log_probabilities: Tensor) -> Tensor:
    slots, tokens = torch.from_numpy(scorer.slots).long(), torch.from_numpy(scorer.tokens)
    return log_probabilities[:, slots, tokens].T.contiguous()


@pytest.mark.parametrize(("entities", "end"), VARIANTS)
def test_scores_equal_a_loop_over_entities(
    entities: str, end: str, build_domain: BuildDomain
) -> None:
    domain = build_domain(TRIPLES, entities=entities, end=end)
    if entities != "id":
        domain.use_graph(domain.graph.with_entities(ADDED))
    table, slots = domain.graph.entities, domain.linearisation.slots
    targets = [
        slots.targets(int(table.id_tokens[i]), table.name_tokens[i]) for i in range(len(table))
    ]
    given = likelihoods(domain)
    expected = padded_mean(given, [(s.tolist(), t.tolist()) for s, t in targets]).T
    scorer = EntityScorer.of(table, slots)
    torch.testing.assert_close(scorer.score(columns(scorer, given)), expected, atol=1e-5, rtol=0)
    sums = EntityScorer.of(table, slots, normalise="sum")
    lengths = torch.tensor([len(tokens) for _, tokens in targets])[:, None]
    torch.testing.assert_close(
        sums.score(columns(sums, given)), expected * lengths, atol=1e-4, rtol=0
    )


def test_the_mean_likelihood_by_hand(build_domain: BuildDomain) -> None:
    """log P of the own token, of the name's tokens and of the end, over their number."""
    domain = build_domain([("a", "r", "b")], entities="both", end="eos")
    graph, given = domain.graph, likelihoods(domain, 1)
    name = graph.entities.name_tokens[1].tolist()
    parts = [given[0, 0, graph.first_entity + 1]]
    parts += [given[0, 1 + i, token] for i, token in enumerate(name)]
    parts += [given[0, 1 + len(name), graph.end_token]]
    scorer = EntityScorer.of(graph.entities, domain.linearisation.slots)
    score = scorer.score(columns(scorer, given))[1, 0]
    assert float(score) == pytest.approx(float(sum(parts)) / len(parts), abs=1e-6)


@pytest.mark.parametrize(("entities", "end"), VARIANTS)
def test_a_score_has_the_same_bits_alone_in_a_range_and_among_all(
    entities: str, end: str, build_domain: BuildDomain
) -> None:
    domain = build_domain(TRIPLES, entities=entities, end=end)
    scorer = EntityScorer.of(domain.graph.entities, domain.linearisation.slots)
    for queries in (1, 5, 32):
        given = columns(scorer, likelihoods(domain, queries))
        every = scorer.score(given)
        size = scorer.num_entities
        for step in (1, 3, size):
            parts = [
                scorer.score(given, slice(i, min(i + step, size))) for i in range(0, size, step)
            ]
            assert torch.equal(torch.cat(parts), every)
        numbers = torch.randperm(size, generator=torch.Generator().manual_seed(1))
        assert torch.equal(scorer.score(given, numbers), every[numbers])
        assert torch.equal(scorer.score(given, numbers[:1]), every[numbers[:1]])


@pytest.mark.parametrize(("entities", "end"), VARIANTS)
def test_added_entities_change_no_bit_of_the_scores_of_the_others(
    entities: str, end: str, build_domain: BuildDomain
) -> None:
    domain = build_domain(TRIPLES, entities=entities, end=end)
    slots, given = domain.linearisation.slots, likelihoods(domain)
    before = EntityScorer.of(domain.graph.entities, slots)
    after = EntityScorer.of(domain.graph.with_entities(ADDED).entities, slots)
    old = before.score(columns(before, given))
    new = after.score(columns(after, given))
    assert len(new) == len(old) + 2
    assert torch.equal(new[: len(old)], old)


def test_an_entity_without_a_single_token_scores_last(build_domain: BuildDomain) -> None:
    domain = build_domain(TRIPLES, entities="id")
    graph = domain.graph.with_entities(ADDED)
    scorer = EntityScorer.of(graph.entities, domain.linearisation.slots)
    scores = scorer.score(columns(scorer, likelihoods(domain)))
    assert torch.isneginf(scores[-2:]).all()
    assert torch.isfinite(scores[:-2]).all()


def test_entities_of_one_name_tie_exactly_where_names_may(build_domain: BuildDomain) -> None:
    texts = {"bank_1": ("bank", "of a river"), "bank_2": ("bank", "for money")}
    triples = [("bank_1", "r", "bank_2"), ("bank_2", "r", "tree")]
    scores = {}
    for collisions in ("tie", "disambiguate"):
        domain = build_domain(triples, texts=texts, entities="tokens", collisions=collisions)
        scorer = EntityScorer.of(domain.graph.entities, domain.linearisation.slots)
        scores[collisions] = scorer.score(columns(scorer, likelihoods(domain)))
    assert torch.equal(scores["tie"][0], scores["tie"][1])
    assert (scores["disambiguate"][0] != scores["disambiguate"][1]).all()


def test_only_pairs_of_slot_and_token_that_occur_are_columns(build_domain: BuildDomain) -> None:
    domain = build_domain(TRIPLES, entities="tokens", end="ignore")
    table = domain.graph.entities
    scorer = EntityScorer.of(table, domain.linearisation.slots)
    used = {
        (slot, token) for i in range(len(table)) for slot, token in enumerate(table.name_tokens[i])
    }
    assert set(zip(scorer.slots.tolist(), scorer.tokens.tolist(), strict=True)) == used
    assert len(scorer.slots) == len(used)
    assert (np.diff(scorer.slots) >= 0).all()


def test_an_own_token_counts_its_weight_and_the_mean_of_the_text_the_rest(
    build_domain: BuildDomain,
) -> None:
    domain = build_domain(TRIPLES, entities="both", end="eos")
    domain.use_graph(domain.graph.with_entities(ADDED))
    table, slots = domain.graph.entities, domain.linearisation.slots
    given = likelihoods(domain)
    scorer = EntityScorer.of(table, slots, own_weight=0.7)
    scores = scorer.score(columns(scorer, given))
    number = 3
    name = [*table.name_tokens[number].tolist(), domain.graph.end_token]
    own = given[:, 0, int(table.id_tokens[number])]
    text = torch.stack([given[:, 1 + i, token] for i, token in enumerate(name)]).mean(0)
    torch.testing.assert_close(scores[number], 0.7 * own + 0.3 * text)


def test_an_entity_without_an_own_token_scores_by_its_text_whatever_the_weight(
    build_domain: BuildDomain,
) -> None:
    domain = build_domain(TRIPLES, entities="both")
    domain.use_graph(domain.graph.with_entities(ADDED))
    table, slots, given = domain.graph.entities, domain.linearisation.slots, likelihoods(domain)
    scorers = [EntityScorer.of(table, slots, own_weight=weight) for weight in (None, 0.0, 1.0)]
    scores = [scorer.score(columns(scorer, given)) for scorer in scorers]
    unseen = table.id_tokens == -1
    assert unseen.sum() == len(ADDED)
    for other in scores[1:]:
        torch.testing.assert_close(other[unseen], scores[0][unseen])
        assert not torch.allclose(other[~unseen], scores[0][~unseen])


@pytest.mark.parametrize("entities", ["tokens", "id"])
def test_a_weight_changes_nothing_where_there_is_nothing_to_weigh(
    entities: str, build_domain: BuildDomain
) -> None:
    domain = build_domain(TRIPLES, entities=entities)
    table, slots, given = domain.graph.entities, domain.linearisation.slots, likelihoods(domain)
    plain, weighted = (EntityScorer.of(table, slots, own_weight=weight) for weight in (None, 0.9))
    found = weighted.score(columns(weighted, given))
    torch.testing.assert_close(found, plain.score(columns(plain, given)))
