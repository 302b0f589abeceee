"""Why an entity scores as it does: its tokens one by one, and what each part of the query adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from seqmlm.encoding import Encoding
from seqmlm_domains.kg.answers import KNOWN_PARTS
from seqmlm_domains.kg.graph import GraphVocabulary
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.link_scores import LinkScorer

SpanKind = Literal[
    "entity", "name", "description", "relation", "relation name", "relation description"
]


@dataclass(frozen=True, slots=True)
class TokenContribution:
    """One token of the entity that was asked for.

    Args:
        slot: number of its slot.
        token: as in the vocabulary.
        log_likelihood: log p, nats; with ``pmi`` less that under the relation alone.
        weight: what it counts in the score: one over the number of tokens unless scores are sums,
            own tokens have a weight of their own, or texts a scale.
    """

    slot: int
    token: str
    log_likelihood: float
    weight: float


@dataclass(frozen=True, slots=True)
class SpanContribution:
    """What one part of the query adds to the score.

    Args:
        kind: ``entity`` or ``relation`` for its own token; a word of its ``name``,
            ``description``, ``relation name`` or ``relation description``.
        text: identifier or word.
        contribution: score with the span less the score without it, nats. An entity's own token
            is replaced by the unknown token, everything else is deleted.
    """

    kind: SpanKind
    text: str
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """A score taken apart.

    Args:
        score: of the entity, nats: ``offset`` and the sum of weight x log-likelihood over
            ``tokens``.
        offset: what puts the text of an entity that nobody trained on beside own tokens, nats; 0
            for others. See :class:`~seqmlm_domains.kg.text_scale.TextScale`.
        tokens: in the order of their slots.
        spans: of the query, in its order. They do not add up: words act together.
    """

    score: float
    offset: float
    tokens: tuple[TokenContribution, ...]
    spans: tuple[SpanContribution, ...]


@dataclass(frozen=True)
class _Span:
    kind: SpanKind
    text: str
    positions: tuple[int, ...]


def explain(scorer: LinkScorer, triple: tuple[int, int, int], missing: Part) -> Explanation:
    """Take the score of the head or tail of a triple apart.

    Args:
        scorer: of the graph's entities.
        triple: numbers of head, relation and tail.
        missing: the part whose score is explained, head or tail.
    """
    entity, relation = (triple[part] for part in KNOWN_PARTS[missing])
    full = scorer.encodings(missing, entity, relation)
    # The known parts are the same in all sequences of a query, at other positions.
    spans_of = [list(_spans(encoding, scorer, missing)) for encoding in full]
    variants = [
        full,
        *(
            [_without(encoding, span, scorer) for encoding, span in zip(full, spans, strict=True)]
            for spans in zip(*spans_of, strict=True)
        ),
    ]
    columns = scorer.columns_of(variants, missing)
    if scorer.normalise == "pmi":
        columns = columns - scorer.uninformed(missing, relation)[:, None]
    used, weights = _tokens_of(scorer, triple[missing])
    values = columns[used].double().cpu().numpy()
    offset = float(scorer.scorer.bias[triple[missing]])
    scores = weights @ values + offset
    layout, names = scorer.scorer, scorer.domain.vocabulary.tokens
    return Explanation(
        float(scores[0]),
        offset,
        tuple(
            TokenContribution(int(layout.slots[at]), names[layout.tokens[at]], value, weight)
            for at, value, weight in zip(
                used.tolist(), values[:, 0].tolist(), weights.tolist(), strict=True
            )
        ),
        tuple(
            SpanContribution(span.kind, span.text, float(scores[0] - score))
            for span, score in zip(spans_of[0], scores[1:], strict=True)
        ),
    )


def _tokens_of(scorer: LinkScorer, entity: int) -> tuple[Tensor, npt.NDArray[np.float64]]:
    """Columns and weights of an entity's tokens."""
    begin, end = scorer.scorer.offsets[entity : entity + 2].tolist()
    weights = scorer.scorer.weights[begin:end].double().cpu().numpy()
    return scorer.scorer.entries[begin:end].long(), weights


def _without(encoding: Encoding, span: _Span, scorer: LinkScorer) -> Encoding:
    """The sequence without a span."""
    positions = list(span.positions)
    if span.kind == "entity":
        ids = encoding.ids.copy()
        ids[positions] = scorer.domain.vocabulary.special.unknown
        return replace(encoding, ids=ids)
    keep = np.ones(len(encoding.ids), np.bool_)
    keep[positions] = False
    return replace(
        encoding,
        ids=encoding.ids[keep],
        unit_ids=encoding.unit_ids[keep],
        segment_ids=encoding.segment_ids[keep],
    )


def _spans(encoding: Encoding, scorer: LinkScorer, missing: Part) -> Iterator[_Span]:
    """The known parts of a query, word by word."""
    graph = scorer.domain.graph
    special = scorer.domain.vocabulary.special
    known = KNOWN_PARTS[missing][0]
    words: list[int] = []
    kind: SpanKind = "name"
    last = len(encoding.ids) - 1
    for position, token in enumerate(encoding.ids.tolist()):
        part = encoding.segment_ids[position]
        is_subword = token >= graph.first_subword and part != missing
        begins = is_subword and scorer.domain.vocabulary.tokens[token].startswith("Ġ")
        if words and (not is_subword or begins):
            yield _word(kind, encoding.ids, words, graph)
            words = []
        if is_subword:
            words.append(position)
        elif graph.first_relation <= token < graph.first_entity:
            yield _Span("relation", graph.relations[token - graph.first_relation], (position,))
            kind = "relation name"
        elif graph.first_entity <= token < graph.first_subword and part == known:
            identifier = graph.entities.identifiers[token - graph.first_entity]
            yield _Span("entity", identifier, (position,))
        elif token == special.end and part != missing and position < last:
            kind = "description" if part == known else "relation description"
        if part == known and kind.startswith("relation"):
            kind = "name"


def _word(
    kind: SpanKind, ids: npt.NDArray[np.int32], positions: Sequence[int], graph: GraphVocabulary
) -> _Span:
    text = graph.tokenizer.decode([int(ids[at]) - graph.first_subword for at in positions])
    return _Span(kind, text, tuple(positions))
