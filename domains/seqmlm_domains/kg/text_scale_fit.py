"""The scale of texts beside own tokens, from validation triples whose entities play unseen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm_domains.kg.answers import KNOWN_PARTS, KnownAnswers
from seqmlm_domains.kg.calibration_queries import MOST_TRIPLES, evenly
from seqmlm_domains.kg.entities import NO_TOKEN
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.link_scores import QUERIES_PER_BATCH, LinkScorer
from seqmlm_domains.kg.ranking import Triples
from seqmlm_domains.kg.text_scale import TextPrior, TextScale

NUM_FOLDS: Final = 10
"""A tenth of the entities plays unseen at a time."""

MOST_ENTITIES: Final = 2_000
"""Candidates besides the answers, evenly spread."""

TRIPLES_OF_PRIOR: Final = 32
"""Each asks for its head and its tail."""

MOST_ITERATIONS: Final = 60

SMALLEST_SHARE: Final = 1e-300
"""Of a fold's candidates beside the best of all, so that its logarithm stays finite."""


@dataclass(frozen=True)
class _Pretence:
    """Scores of the same candidates as trained entities and as ones known by their text alone.

    Args:
        own: float64 ``[candidates, queries]``, with the own token, nats.
        text: likewise, of the text alone.
        prior: float64 ``[candidates, 1]``, of the text under any query.
        is_candidate: bool ``[candidates, queries]``.
        answers: int64 ``[queries]``.
        folds: int64 ``[candidates]``, in which each plays unseen.
    """

    own: Tensor
    text: Tensor
    prior: Tensor
    is_candidate: Tensor
    answers: Tensor
    folds: Tensor


def fit_text_scale(
    scorer: LinkScorer, triples: Triples, *, excluded: Mapping[Part, KnownAnswers]
) -> TextScale | None:
    """Find the scale on which the texts of unseen entities rank among trained ones.

    In each of :data:`NUM_FOLDS` folds a share of the trained entities is scored as if nobody had
    trained on it, as answer and as candidate alike; a softmax over all candidates then has to give
    the true answers the most probability, over all folds. An unseen entity so comes out first
    about as often as it is the answer. The likelihood of the texts is somewhat too good: training
    had asked for some of them. Related: calibrated stacking (Chao et al., ECCV 2016), which finds
    an offset alone, by accuracy.

    Args:
        scorer: of the graph's entities; its own weight is part of the scale.
        triples: int64 ``[n, 3]``, of validation.
        excluded: by part, answers that are no candidates; that of the query itself is.

    Returns:
        None where there is nothing to compare: entities have no own tokens or no texts, no weight
        was chosen, or no triple is between trained entities.
    """
    if scorer.domain.options["entities"] != "both" or scorer.own_weight is None:
        return None
    has_own = scorer.domain.graph.entities.id_tokens != NO_TOKEN
    triples = triples[has_own[triples[:, [Part.HEAD, Part.TAIL]]].all(1)]
    if not len(triples) or has_own.sum() < 2:
        return None
    chosen = evenly(triples, MOST_TRIPLES)
    prior = _prior(scorer, evenly(chosen, TRIPLES_OF_PRIOR))
    scale, prior_share, offset = _least_surprise(
        _pretence(scorer, chosen, prior, has_own, excluded)
    )
    return TextScale(scale, prior_share, offset, prior)


def _prior(scorer: LinkScorer, triples: Triples) -> TextPrior:
    """Mean likelihood of every word in every slot over the queries of some triples."""
    graph, slots = scorer.domain.graph, scorer.domain.linearisation.slots
    of_text = slots.of_wording("text")
    pairs = TextPrior.pairs(graph, of_text)
    # Every pair is a column; no entity is scored by it.
    whole = replace(scorer, scorer=replace(scorer.scorer, slots=pairs[0], tokens=pairs[1]))
    total = torch.zeros(len(pairs[0]), dtype=torch.float64)
    for part in (Part.HEAD, Part.TAIL):
        for start in range(0, len(triples), QUERIES_PER_BATCH):
            asked = triples[start : start + QUERIES_PER_BATCH, list(KNOWN_PARTS[part])]
            total += whole.columns(part, asked).double().sum(1).cpu()
    table = (total / (2 * len(triples))).float().numpy().reshape(len(of_text), -1)
    return TextPrior(table, of_text.start, graph.first_subword)


def _pretence(
    scorer: LinkScorer,
    triples: Triples,
    prior: TextPrior,
    has_own: npt.NDArray[np.bool_],
    excluded: Mapping[Part, KnownAnswers],
) -> _Pretence:
    answers = np.concatenate([triples[:, Part.HEAD], triples[:, Part.TAIL]])
    numbers = np.flatnonzero(has_own)
    spread = np.arange(min(len(numbers), MOST_ENTITIES))
    numbers = np.union1d(numbers[spread * len(numbers) // len(spread)], answers)
    chosen = torch.from_numpy(numbers).to(scorer.model.device)
    text = scorer.with_own_weight(0.0).scorer
    own_scores, text_scores = [], []
    is_candidate = np.ones((len(numbers), len(answers)), np.bool_)
    for part in (Part.HEAD, Part.TAIL):
        for start in range(0, len(triples), QUERIES_PER_BATCH):
            asked = triples[start : start + QUERIES_PER_BATCH]
            columns = scorer.columns(part, asked[:, list(KNOWN_PARTS[part])])
            own_scores.append(scorer.scorer.score(columns, chosen).cpu())
            text_scores.append(text.score(columns, chosen).cpu())
        first = 0 if part == Part.HEAD else len(triples)
        of_part = is_candidate[:, first : first + len(triples)]
        for column, triple in enumerate(triples):
            others = excluded[part](triple[list(KNOWN_PARTS[part])])
            of_part[np.isin(numbers, others[others != triple[part]]), column] = False
    folds = np.random.default_rng(0).permutation(len(numbers)) % NUM_FOLDS
    on_cpu = text.to(torch.device("cpu"))
    prior_scores = on_cpu.score(prior.columns(text.slots, text.tokens), torch.from_numpy(numbers))
    return _Pretence(
        torch.cat(own_scores, 1).double(),
        torch.cat(text_scores, 1).double(),
        prior_scores.double(),
        torch.from_numpy(is_candidate),
        torch.from_numpy(np.searchsorted(numbers, answers)),
        torch.from_numpy(folds),
    )


def _least_surprise(given: _Pretence) -> tuple[float, float, float]:
    """Scale, share of the prior and offset of the least -log p of the answers, by L-BFGS."""
    offset = float(given.own.mean() - given.text.mean())
    start = torch.tensor([1.0, 0.0, offset, 0.0], dtype=torch.float64)
    found = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([found], max_iter=MOST_ITERATIONS, line_search_fn="strong_wolfe")
    queries = torch.arange(len(given.answers))
    plays = torch.zeros(NUM_FOLDS, len(queries), dtype=torch.bool)
    plays[given.folds[given.answers], queries] = True  # in this fold the answer is unseen

    def loss() -> Tensor:
        optimizer.zero_grad()
        scale, prior_share, offset, log_temperature = found
        own = given.own * (-log_temperature).exp()
        text = (scale * given.text - prior_share * given.prior + offset) * (-log_temperature).exp()
        normaliser = _fold_normalisers(own, text, given)
        true = torch.where(
            plays, text[given.answers, queries][None], own[given.answers, queries][None]
        )
        # A weak pull towards likelihoods as they are keeps a perfect fit finite.
        value = (normaliser - true).mean() + 1e-3 * (found - start).square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    scale, prior_share, offset, _ = found.detach().tolist()
    return scale, prior_share, offset


def _fold_normalisers(own: Tensor, text: Tensor, given: _Pretence) -> Tensor:
    """log of the sum over candidates in each fold, float64 ``[folds, queries]``."""
    highest = torch.maximum(own.detach().amax(0), text.detach().amax(0))
    parts = []
    for logits in (own, text):
        shares = torch.where(given.is_candidate, (logits - highest).exp(), 0.0)
        empty = torch.zeros(NUM_FOLDS, shares.shape[1], dtype=shares.dtype)
        parts.append(empty.index_add(0, given.folds, shares))
    trained, unseen = parts
    others = 1 - torch.eye(NUM_FOLDS, dtype=trained.dtype)
    return (others @ trained + unseen).clamp(min=SMALLEST_SHARE).log() + highest
