"""The relation of a triple as an objective of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from seqmlm.data.corpus import Corpus
from seqmlm.data.report import ReadReport
from seqmlm.domain import Record
from seqmlm.model.model import Model
from seqmlm.objectives.rows import TrainedObjective
from seqmlm_domains.kg import LinkPredictor
from seqmlm_domains.kg.default_settings import HIDDEN_GROUP, SAMPLES
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.masked_relation import MaskedRelation, has_learned_relations

BuildDomain = Any


@pytest.mark.parametrize("entities", ["tokens", "id", "both"])
def test_the_relation_is_hidden_with_its_name_whatever_part_was_missing(
    entities: str, build_domain: BuildDomain
) -> None:
    """The name of a relation follows its token, and would tell it."""
    domain = build_domain(entities=entities, relation_names={"parent_of": "is the parent of"})
    objective = MaskedRelation(domain)
    (row,) = objective.rows(domain.parse("ann\tparent_of\tbob"), np.random.default_rng(0))
    targets = row.targets["masked_relation"]
    assert row.ids[targets.positions] == domain.vocabulary.special.mask
    assert domain.vocabulary.tokens[int(targets.labels[0])] == "relation:parent_of"
    assert (row.segment_ids == Part.RELATION).sum() == 1
    assert targets.labels[0] not in row.ids
    assert len(row.ids) == len(row.position_ids) == len(row.segment_ids)


def test_a_question_is_the_one_that_is_asked_later(build_domain: BuildDomain) -> None:
    domain = build_domain(entities="both", id_dropout=0.0)
    record = Record("train", "ann\tparent_of\tbob", "test", 1)
    store: Any = [domain.tokenize([record], ReadReport()).tokens]
    corpus = Corpus(domain, store, np.array([0]), 64)
    generator = np.random.default_rng(0)
    encoding = domain.assemble(store[0], max_length=64)
    prepared = MaskedRelation(domain).prepare(corpus, 0, encoding, generator).encoding
    triple = [domain.number(key, Part(i)) for i, key in enumerate(record.content.split("\t"))]
    asked = domain.linearisation.encode(tuple(triple), Part.RELATION, max_length=64)
    assert np.array_equal(prepared.ids, asked.ids)


@pytest.mark.parametrize(
    ("share", "objectives", "learned"),
    [(0.1, [], True), (0.0, [], False), (0.0, ["masked_relation"], True)],
    ids=["share", "neither", "objective"],
)
def test_a_model_knows_whether_it_learned_relations(
    share: float,
    objectives: list[str],
    learned: bool,
    build_domain: BuildDomain,
    build_model: Callable[..., Model],
) -> None:
    domain = build_domain(relation_share=share)
    model = build_model(domain, layers=1, segments=3)
    model.trained_objectives = tuple(TrainedObjective(name, None, None) for name in objectives)
    assert has_learned_relations(model) == learned


def test_relations_can_be_asked_for_after_training_with_the_objective(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("seqmlm.training.loop.plot_run", lambda *arguments, **options: [])
    settings = {
        "objectives": [
            {"name": "mlm", "policy": HIDDEN_GROUP},
            {"name": "masked_relation", "weight": 0.5},
        ],
        "domain.entities": "id",
        "domain.relation_share": 0,
        "training.steps": 3,
        "training.device": "cpu",
        "model.layers": 1,
        "model.hidden_size": 16,
    }
    predictor = LinkPredictor.fit(SAMPLES / "nations", settings=settings)
    found = predictor.predict_relations("china", "usa", top_k=100)
    assert sum(item.probability for item in found) == pytest.approx(1, abs=1e-5)
