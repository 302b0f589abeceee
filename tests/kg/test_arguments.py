"""Arguments of the Python interface that cannot be used."""

from __future__ import annotations

from typing import Any

import pytest

from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.kg import LinkPredictor


@pytest.mark.parametrize("missing", ["relation", "heads", None])
def test_what_cannot_be_explained_is_refused(predictor: LinkPredictor, missing: Any) -> None:
    """Everything but head was taken for the tail."""
    with pytest.raises(ConfigError, match=r"missing = .*it is one of head, tail"):
        predictor.explain("norway", "has_city", "oslo", missing=missing)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalise": "median"}, "normalise = 'median': it is one of mean, sum, pmi.*'mean'"),
        ({"end": "EOS"}, "end = 'EOS'.*Did you mean 'eos'"),
    ],
    ids=["normalise", "end"],
)
def test_scores_that_do_not_exist_are_refused(
    predictor: LinkPredictor, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        LinkPredictor(predictor._model, known=predictor._known, **settings)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: p.score_triples([("a", "b")]), DataError, r"triple 1: \('a', 'b'\)"),
        (lambda p: p.score_triples(["abc"]), DataError, "triple 1: 'abc'"),
        (lambda p: p.score_triples("abc"), ConfigError, "must be a list of"),
        (lambda p: p.score_triples([("oslo", None, "x")]), DataError, "must be strings"),
        (lambda p: p.evaluate([("a", "b")]), DataError, "triple 1"),
        (lambda p: p.evaluate(5), ConfigError, "must be a list of"),
        (lambda p: p.explain("oslo", "lies_in", 5), DataError, "must be strings"),
        (lambda p: p.add_entities({"q": None}), DataError, "'q': None; it must be a name"),
        (lambda p: p.add_entities({"q": ("n", "d")}), DataError, "NameAndDescription"),
        (lambda p: p.add_entities({5: "five"}), DataError, "5 is no string"),
        (lambda p: p.add_entities(["q"]), ConfigError, "must map identifiers to names"),
        (lambda p: p.add_entity("a\tb"), DataError, "tab or line break"),
        (lambda p: p.add_entity("a\nb"), DataError, "tab or line break"),
        (lambda p: p.add_entity(" "), DataError, "not empty"),
        (lambda p: p.predict_tails("oslo", "lies_in", top_k=1.5), ConfigError, "an integer"),
        (lambda p: p.predict_tails("oslo", 5), ConfigError, "two strings with None"),
        (lambda p: p.predict_many(["abc"]), ConfigError, "two strings with None"),
        (
            lambda p: p.predict_tails("oslo", "lies_in", candidates="usa"),
            ConfigError,
            "candidates = 'usa': it must be a list of strings",
        ),
        (
            lambda p: p.predict_tails("oslo", "lies_in", candidates=["x", "y", "oslo"]),
            DataError,
            "no entities 'x', 'y'",
        ),
        (lambda p: p.set_entity_types({"oslo": "city"}), ConfigError, "list of strings"),
        (lambda p: p.set_entity_types(["oslo"]), ConfigError, "must map identifiers to lists"),
        (
            lambda p: p.predict_many(
                [("oslo", "lies_in", None), ("oslo", None, "norway")], candidates=["oslo"]
            ),
            ConfigError,
            "Ask them apart",
        ),
    ],
)
def test_arguments_of_another_shape_are_refused(
    predictor: LinkPredictor, call: Any, error: type[Exception], message: str
) -> None:
    """They ended in errors of Python, or a string was taken letter by letter."""
    with pytest.raises(error, match=message):
        call(predictor)
