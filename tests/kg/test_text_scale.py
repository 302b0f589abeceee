"""Entities that nobody trained on, scored by text beside own tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from seqmlm_domains.kg.answers import KnownAnswers
from seqmlm_domains.kg.entities import NO_TOKEN
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.link_scores import LinkScorer, numbered
from seqmlm_domains.kg.ranking import Triples
from seqmlm_domains.kg.text_scale import TextPrior, TextScale
from seqmlm_domains.kg.text_scale_fit import NUM_FOLDS, _least_surprise, _Pretence, fit_text_scale
from seqmlm_domains.kg.triples import NameAndDescription
from tests.kg.conftest import FAMILY, BuildScorer

ADDED = {"dee": NameAndDescription("Dee"), "boston": NameAndDescription("Boston town")}


def answers_of(triples: Triples) -> dict[Part, KnownAnswers]:
    return {part: KnownAnswers.of(triples, part) for part in Part}


def fitted(build_scorer: BuildScorer) -> tuple[LinkScorer, TextScale]:
    scorer = build_scorer(entities="both").with_own_weight(0.7)
    triples = numbered(scorer.domain, FAMILY)
    scale = fit_text_scale(scorer, triples, excluded=answers_of(triples))
    assert scale is not None
    return scorer.with_text_scale(scale), scale


def test_a_text_is_scaled_less_its_prior_and_shifted(build_scorer: BuildScorer) -> None:
    """By hand, from the scores of the same texts without a scale."""
    scorer, found = fitted(build_scorer)
    scale = TextScale(2.0, 0.5, -3.0, found.prior)
    scorer.domain.use_graph(scorer.domain.graph.with_entities(ADDED))
    plain = scorer.with_text_scale(None).for_entities_of_graph()
    scaled = scorer.with_text_scale(scale)
    known = np.array([[0, 0], [1, 1]])
    columns = plain.columns(Part.TAIL, known)
    expected, got = plain.scorer.score(columns), scaled.scorer.score(columns)
    table = scorer.domain.graph.entities
    for number in range(len(table) - 2, len(table)):
        tokens = [*table.name_tokens[number].tolist(), scorer.domain.graph.end_token]
        prior = np.mean(
            [
                scale.prior.table[slot, max(token - scale.prior.first_subword + 1, 0)]
                for slot, token in enumerate(tokens)
            ]
        )
        torch.testing.assert_close(got[number], 2 * expected[number] - 0.5 * float(prior) - 3)


def test_a_scale_changes_no_bit_of_the_scores_of_trained_entities(
    build_scorer: BuildScorer,
) -> None:
    scorer, _ = fitted(build_scorer)
    known = np.array([[0, 0], [1, 1]])
    before = scorer.scorer.score(scorer.columns(Part.TAIL, known))
    graph = scorer.domain.graph.with_entities(ADDED)
    scorer.domain.use_graph(graph)
    wider = scorer.for_entities_of_graph()
    after = wider.scorer.score(wider.columns(Part.TAIL, known))
    assert torch.equal(after[: len(before)], before)
    more = {"el": NameAndDescription("El")}
    scorer.domain.use_graph(graph.with_entities(more))
    widest = scorer.for_entities_of_graph()
    last = widest.scorer.score(widest.columns(Part.TAIL, known))
    assert torch.equal(last[: len(after)], after)


def test_the_prior_is_the_mean_likelihood_over_queries(build_scorer: BuildScorer) -> None:
    scorer, scale = fitted(build_scorer)
    triples = numbered(scorer.domain, FAMILY)
    asked = [scorer.columns(part, triples[:, [2 - part, 1]]) for part in (Part.HEAD, Part.TAIL)]
    mean = torch.cat(asked, 1).mean(1, keepdim=True)
    of_text = torch.from_numpy(scorer.scorer.slots > 0)
    found = scale.prior.columns(scorer.scorer.slots, scorer.scorer.tokens)
    torch.testing.assert_close(found[of_text], mean[of_text], atol=1e-5, rtol=0)
    assert not found[~of_text].any()


def pretence(*, shift: float, prior_share: float, entities: int = 60) -> _Pretence:
    """Answers drawn from a softmax in which a tenth is scored by text, on a known scale."""
    generator = torch.Generator().manual_seed(1)
    queries = 3000
    folds = torch.arange(entities) % NUM_FOLDS
    prior = -2 * torch.rand(entities, 1, generator=generator).double()
    own = -4 * torch.rand(entities, queries, generator=generator).double()
    text = own + prior_share * prior - shift
    fold = torch.randint(NUM_FOLDS, (queries,), generator=generator)
    scored = torch.where(folds[:, None] == fold, text - prior_share * prior + shift, own)
    answers = torch.multinomial(scored.softmax(0).T, 1, generator=generator)[:, 0]
    return _Pretence(own, text, prior, torch.ones_like(own, dtype=torch.bool), answers, folds)


@pytest.mark.parametrize(("shift", "prior_share"), [(0.0, 0.0), (5.0, 0.0), (-3.0, 1.0)], ids=str)
def test_the_scale_that_made_the_answers_is_found(shift: float, prior_share: float) -> None:
    scale, share, offset = _least_surprise(pretence(shift=shift, prior_share=prior_share))
    assert scale == pytest.approx(1, abs=0.1)
    assert share == pytest.approx(prior_share, abs=0.2)
    assert offset == pytest.approx(shift, abs=0.5)


@pytest.mark.parametrize("gap", [2.0, 400.0], ids=str)
def test_texts_that_say_nothing_or_everything_give_a_finite_scale(gap: float) -> None:
    given = pretence(shift=0.0, prior_share=0.0, entities=10)
    queries = torch.arange(len(given.answers))
    own = torch.full_like(given.own, -gap)
    own[given.answers, queries] = 0.0
    nothing = _Pretence(
        own, torch.zeros_like(own), given.prior, given.is_candidate, given.answers, given.folds
    )
    everything = _Pretence(own, own, given.prior, given.is_candidate, given.answers, given.folds)
    for each in (nothing, everything):
        assert np.isfinite(_least_surprise(each)).all()


@pytest.mark.parametrize("entities", ["id", "tokens"])
def test_nothing_is_scaled_where_entities_are_written_in_one_way(
    entities: str, build_scorer: BuildScorer
) -> None:
    scorer = build_scorer(entities=entities)
    triples = numbered(scorer.domain, FAMILY)
    assert fit_text_scale(scorer, triples, excluded=answers_of(triples)) is None


def test_without_a_triple_between_trained_entities_nothing_is_scaled(
    build_scorer: BuildScorer,
) -> None:
    scorer = build_scorer(entities="both").with_own_weight(1.0)
    none = numbered(scorer.domain, [])
    assert fit_text_scale(scorer, none, excluded=answers_of(none)) is None
    scorer.domain.use_graph(scorer.domain.graph.with_entities(ADDED))
    assert scorer.domain.graph.entities.id_tokens[-1] == NO_TOKEN
    unseen = numbered(scorer.domain, [("ann", "parent_of", "dee")])
    wider = scorer.for_entities_of_graph()
    assert fit_text_scale(wider, unseen, excluded=answers_of(unseen)) is None


def test_a_scale_survives_json(build_scorer: BuildScorer) -> None:
    _, scale = fitted(build_scorer)
    again: Any = TextScale.of(scale.to_json(), scale.prior.table)
    assert again == TextScale(scale.scale, scale.prior_share, scale.offset, again.prior)
    assert isinstance(again.prior, TextPrior)
    assert (again.prior.first_slot, again.prior.first_subword) == (
        scale.prior.first_slot,
        scale.prior.first_subword,
    )
