"""The Python interface: train, ask, extend, evaluate, explain, keep."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqmlm
from seqmlm.errors import CheckpointError, ConfigError, DataError
from seqmlm_domains.kg import LinkPredictor, NameAndDescription, to_dataframe
from tests.kg.conftest import CITIES, LANDS, TEST, TRAIN, VALIDATION


def test_probabilities_of_all_candidates_sum_to_one(predictor: LinkPredictor) -> None:
    found = predictor.predict_tails("oslo", "lies_in", top_k=100)
    assert len(found) == len(predictor.entities)
    assert math.isclose(sum(item.probability for item in found), 1, abs_tol=1e-5)
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
    relations = predictor.predict_relations("oslo", "norway", top_k=100)
    assert {item.relation for item in relations} == {"lies_in", "borders", "has_city"}
    assert math.isclose(sum(item.probability for item in relations), 1, abs_tol=1e-5)


def test_fewer_answers_are_the_first_of_more(predictor: LinkPredictor) -> None:
    everything = predictor.predict_heads("lies_in", "norway", top_k=100)
    assert predictor.predict_heads("lies_in", "norway", top_k=3) == everything[:3]


def test_what_training_and_validation_state_is_filtered_out(predictor: LinkPredictor) -> None:
    found = {item.entity for item in predictor.predict_heads("lies_in", "norway", top_k=100)}
    left = predictor.predict_heads("lies_in", "norway", top_k=100, filtered=True)
    assert found - {item.entity for item in left} == {"oslo", "bergen"}
    assert math.isclose(sum(item.probability for item in left), 1, abs_tol=1e-5)
    tails = predictor.predict_tails("norway", "has_city", top_k=100, filtered=True)
    assert {"oslo", "bergen"} & {item.entity for item in tails} == set()
    relations = predictor.predict_relations("oslo", "norway", top_k=100, filtered=True)
    assert {item.relation for item in relations} == {"borders", "has_city"}


def test_candidates_keep_their_scores_and_share_the_probability(predictor: LinkPredictor) -> None:
    everything = {
        item.entity: item.score for item in predictor.predict_tails("oslo", "lies_in", top_k=100)
    }
    found = predictor.predict_tails("oslo", "lies_in", candidates=["norway", "rome", "norway"])
    assert {item.entity for item in found} == {"norway", "rome"}
    assert all(item.score == everything[item.entity] for item in found)
    assert math.isclose(sum(item.probability for item in found), 1, abs_tol=1e-5)


def test_candidates_of_a_type(predictor: LinkPredictor) -> None:
    predictor.set_entity_types({land: ["land"] for land in LANDS})
    found = predictor.predict_tails("oslo", "lies_in", candidate_type="land")
    assert {item.entity for item in found} == set(LANDS)
    both = predictor.predict_tails(
        "oslo", "lies_in", candidate_type="land", candidates=["norway", "oslo"]
    )
    assert [item.entity for item in both] == ["norway"]
    with pytest.raises(DataError, match=r"no entity of type 'lamd'.* mean 'land'"):
        predictor.predict_tails("oslo", "lies_in", candidate_type="lamd")


def test_many_queries_are_answered_in_their_order(predictor: LinkPredictor) -> None:
    queries = [
        ("oslo", "lies_in", None),
        (None, "lies_in", "norway"),
        ("oslo", None, "norway"),
        ("rome", "lies_in", None),
        ("oslo", "lies_in", None),
    ]
    found = predictor.predict_many(queries, top_k=2)
    assert found[0] == found[4]
    assert [type(items[0]).__name__ for items in found] == [
        "EntityPrediction",
        "EntityPrediction",
        "RelationPrediction",
        "EntityPrediction",
        "EntityPrediction",
    ]
    alone = predictor.predict_tails("rome", "lies_in", top_k=2)
    assert [item.entity for item in alone] == [item.entity for item in found[3]]  # type: ignore[union-attr]
    assert np.allclose([item.score for item in alone], [item.score for item in found[3]], atol=1e-5)


def test_equal_queries_are_computed_once(
    predictor: LinkPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    scorer = type(predictor._scorer)
    columns = scorer.columns

    def counted(self: Any, missing: Any, known: Any) -> Any:
        encoded.append(len(known))
        return columns(self, missing, known)

    monkeypatch.setattr(scorer, "columns", counted)
    predictor.predict_many([("oslo", "lies_in", None)] * 50 + [("rome", "lies_in", None)])
    assert encoded == [2]


def test_no_answer_is_given_below_the_threshold(predictor: LinkPredictor) -> None:
    best = predictor.predict_tails("oslo", "lies_in", top_k=1)[0].probability
    assert predictor.predict_tails("oslo", "lies_in", abstain_below=best)
    assert predictor.predict_tails("oslo", "lies_in", abstain_below=best + 1e-6) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"queries": [("osl", "lies_in", None)]}, DataError, "no entity 'osl'.*mean 'oslo'"),
        ({"queries": [("oslo", "lie_in", None)]}, DataError, "no relation 'lie_in'.*'lies_in'"),
        (
            {"queries": [("oslo", "lies_in", None)], "candidates": ["norwy"]},
            DataError,
            "no entity 'norwy'.*mean 'norway'",
        ),
        ({"queries": [("oslo", "lies_in", None)], "candidates": []}, DataError, "No candidate"),
        ({"queries": [("oslo", "lies_in", "norway")]}, ConfigError, "with None for the one"),
        ({"queries": [("oslo", None, None)]}, ConfigError, "with None for the one"),
        ({"queries": [], "top_k": 0}, ConfigError, "top_k = 0"),
        ({"queries": [], "abstain_below": 2}, ConfigError, "abstain_below = 2"),
    ],
    ids=lambda value: "" if not isinstance(value, dict) else "-".join(map(str, value)),
)
def test_what_cannot_be_asked_is_refused(
    predictor: LinkPredictor, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        predictor.predict_many(**arguments)


def test_an_added_entity_changes_no_bit_of_the_scores_of_others(predictor: LinkPredictor) -> None:
    before = predictor.score_triples(TRAIN)
    answers = predictor.predict_tails("oslo", "lies_in", top_k=100)
    predictor.add_entity("new_land", description="a land in the sea")
    predictor.add_entities({"x1": "a name of its own", "x2": NameAndDescription("", "")})
    assert predictor.score_triples(TRAIN) == before
    after = {item.entity: item for item in predictor.predict_tails("oslo", "lies_in", top_k=100)}
    assert all(after[item.entity].score == item.score for item in answers)
    assert {"new_land", "x1", "x2"} <= after.keys()
    assert predictor.predict_tails("new_land", "has_city", top_k=1)


def test_an_entity_cannot_be_added_twice(predictor: LinkPredictor) -> None:
    with pytest.raises(DataError, match="'oslo' exists already"):
        predictor.add_entity("oslo")


def test_entities_without_names_in_the_model_cannot_be_added(predictor: LinkPredictor) -> None:
    predictor._domain._options["entities"] = "id"
    with pytest.raises(ConfigError, match="cannot read the name"):
        predictor.add_entity("new_land")


def test_relations_that_were_never_predicted_are_not_asked_for(predictor: LinkPredictor) -> None:
    predictor._domain._options["relation_share"] = 0.0
    with pytest.raises(ConfigError, match="it never had to predict a relation"):
        predictor.predict_relations("oslo", "norway")


def test_a_saved_predictor_answers_alike(predictor: LinkPredictor, tmp_path: Path) -> None:
    predictor.add_entity("new_land", description="a land in the sea")
    predictor.set_entity_types({"oslo": ["city"]})
    predictor.save(tmp_path / "saved")
    predictor.save(tmp_path / "saved")  # replaces
    loaded = LinkPredictor.load(tmp_path / "saved")
    assert loaded.calibration == predictor.calibration
    queries = [("new_land", "has_city", None), ("oslo", None, "norway")]
    for filtered in (False, True):
        assert loaded.predict_many(queries, filtered=filtered) == predictor.predict_many(
            queries, filtered=filtered
        )
    assert loaded.predict_tails("norway", "has_city", candidate_type="city")[0].entity == "oslo"
    assert seqmlm.load(str(tmp_path / "saved")).domain.name == "kg"


def test_a_model_without_its_triples_is_refused(predictor: LinkPredictor, tmp_path: Path) -> None:
    predictor._model.save(tmp_path / "model")
    with pytest.raises(ConfigError, match="does not know which triples are known"):
        LinkPredictor.load(tmp_path / "model")


@pytest.mark.parametrize("missing", ["head", "tail"])
def test_an_explanation_adds_up_to_the_score(predictor: LinkPredictor, missing: Any) -> None:
    triple = ("norway", "has_city", "oslo")
    found = predictor.explain(*triple, missing=missing)
    parts = [token.weight * token.log_likelihood for token in found.tokens]
    assert found.score == pytest.approx(sum(parts))
    assert sum(token.weight for token in found.tokens) == pytest.approx(1)
    (scores,) = predictor.score_triples([triple])
    assert math.isclose(found.score, getattr(scores, missing), abs_tol=1e-5)
    assert [token.slot for token in found.tokens] == list(range(len(parts)))


def test_an_explanation_deletes_every_span_of_the_query(predictor: LinkPredictor) -> None:
    found = predictor.explain("norway", "has_city", "oslo")
    assert [(span.kind, span.text) for span in found.spans] == [
        ("entity", "norway"),
        ("name", "norway"),
        ("description", "a"),
        ("description", "cold"),
        ("description", "land"),
        ("relation", "has_city"),
        ("relation name", "has"),
        ("relation name", "city"),
    ]
    heads = predictor.explain("oslo", "lies_in", "norway", missing="head")
    assert [span.kind for span in heads.spans] == [
        "relation", "relation name", "relation name", "entity", "name",
        "description", "description", "description",
    ]  # fmt: skip
    assert any(span.contribution != 0 for span in found.spans)


def test_unseen_entities_are_evaluated_and_forgotten(predictor: LinkPredictor) -> None:
    before = predictor.entities
    report = predictor.evaluate(TEST, entity_texts={"trondheim": "Trondheim"})
    assert report.both.realistic.count == 4
    assert report.unseen.realistic.count == 2
    assert report.num_entities == len(CITIES) + len(LANDS) + 1
    assert predictor.entities == before
    assert "NaN" not in json.dumps(report.to_json())


def test_test_triples_that_were_trained_on_are_told(
    predictor: LinkPredictor, caplog: pytest.LogCaptureFixture
) -> None:
    predictor.evaluate(TEST)
    assert "1 of 2 triples to evaluate are among the training triples" in caplog.text


@pytest.mark.parametrize(
    ("triples", "message"),
    [
        ([], "no triple to evaluate"),
        ([("oslo", "lays_in", "norway")], "'lays_in'.*no training triple.*Did you mean 'lies_in'"),
    ],
    ids=["none", "relation"],
)
def test_what_cannot_be_evaluated_is_refused(
    predictor: LinkPredictor, triples: list[tuple[str, str, str]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        predictor.evaluate(triples)


def test_calibration_is_reported(predictor: LinkPredictor) -> None:
    error = predictor.calibration.error
    assert error is not None
    assert error.queries == len(VALIDATION)  # half of both directions
    assert 0 <= error.expected_error <= 1
    assert 0 <= error.brier <= 2


@pytest.mark.skipif(importlib.util.find_spec("pandas") is not None, reason="pandas is installed")
def test_a_table_needs_pandas(predictor: LinkPredictor) -> None:
    with pytest.raises(ConfigError, match="pip install pandas"):
        to_dataframe(predictor.predict_tails("oslo", "lies_in"))


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
def test_predictions_become_a_table(predictor: LinkPredictor) -> None:
    table = to_dataframe(predictor.predict_many([("oslo", "lies_in", None)] * 2, top_k=2))
    assert list(table.columns) == ["query", "entity", "name", "score", "probability"]
    assert table["query"].tolist() == [0, 0, 1, 1]


def test_an_entity_in_no_triple_is_a_candidate_but_not_one_of_the_evaluation(
    predictor: LinkPredictor,
) -> None:
    """Published results rank the entities of the triples."""
    assert "atlantis" in predictor.entities
    assert predictor.predict_tails("atlantis", "borders", candidates=["norway", "atlantis"])
    assert predictor.evaluate(TEST).num_entities == len(CITIES) + len(LANDS) + 1


@pytest.mark.parametrize("change", [{"normalise": "sum"}, {"end": "ignore"}])
def test_scoring_can_be_chosen_when_a_predictor_is_loaded(
    change: dict[str, Any], predictor: LinkPredictor, tmp_path: Path
) -> None:
    predictor.save(tmp_path / "kept")
    other = LinkPredictor.load(tmp_path / "kept", **change)
    assert other.score_triples(TRAIN[:1]) != predictor.score_triples(TRAIN[:1])
    again = LinkPredictor.load(tmp_path / "kept")
    assert again.score_triples(TRAIN[:1]) == predictor.score_triples(TRAIN[:1])


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
def test_scores_of_triples_become_a_table_of_triples(predictor: LinkPredictor) -> None:
    table = to_dataframe(predictor.score_triples(TRAIN[:2]))
    columns = ["head", "relation", "tail", "head_score", "tail_score", "mean_score"]
    assert list(table.columns) == columns
    assert table["tail"].tolist() == [TRAIN[0][2], TRAIN[1][2]]


def test_the_score_of_an_added_entity_is_explained_with_its_offset(
    predictor: LinkPredictor,
) -> None:
    predictor.add_entity("new_land", name="a land of its own")
    assert predictor._scorer.text_scale is not None
    found = predictor.explain("oslo", "lies_in", "new_land")
    parts = [token.weight * token.log_likelihood for token in found.tokens]
    assert found.offset != 0
    assert found.score == pytest.approx(sum(parts) + found.offset)
    (scores,) = predictor.score_triples([("oslo", "lies_in", "new_land")])
    assert math.isclose(found.score, scores.tail, abs_tol=1e-4)
    assert predictor.explain("oslo", "lies_in", "norway").offset == 0


def test_answers_and_queries_that_are_unseen_are_reported_apart(predictor: LinkPredictor) -> None:
    """(norway, has_city, trondheim): its tail is the answer once, and in the query once."""
    report = predictor.evaluate([*TEST, ("bodo", "lies_in", "atlantis")])
    assert report.unseen.realistic.count == 4
    assert report.unseen_answers.realistic.count == 3
    assert report.unseen_queries.realistic.count == 1
    ranks = report.to_json()
    assert ranks["unseen_answers"]["realistic"]["mrr"] is not None


def test_repeated_test_triples_are_told(
    predictor: LinkPredictor, caplog: pytest.LogCaptureFixture
) -> None:
    predictor.evaluate([*TEST, TEST[0]])
    assert "1 of 3 triples to evaluate are repeated" in caplog.text


def test_a_saved_predictor_is_not_used_with_another_model(
    predictor: LinkPredictor, tmp_path: Path
) -> None:
    predictor.save(tmp_path / "saved")
    predictor.add_entity("new_land")
    predictor._model.save(tmp_path / "saved" / "model")
    with pytest.raises(CheckpointError, match="another model"):
        LinkPredictor.load(tmp_path / "saved")
