"""Scores to probabilities."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmlm_domains.kg.calibration import (
    Calibration,
    ScoredQueries,
    calibration_error,
    fit_calibration,
)


def drawn(
    *, exponent: float, temperature: float, queries: int = 2000, lengths: torch.Tensor | None = None
) -> ScoredQueries:
    """Scores whose answers are drawn from the softmax of these parameters."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([1, 1, 2, 3, 5, 8]) if lengths is None else lengths
    scores = -3 * torch.rand(len(lengths), queries, generator=generator)
    logits = Calibration(exponent, temperature).logits(scores, lengths)
    answers = torch.multinomial(logits.softmax(0).T, 1, generator=generator)[:, 0]
    return ScoredQueries(scores, lengths, answers)


@pytest.mark.parametrize(("exponent", "temperature"), [(0.0, 1.0), (0.5, 0.5), (1.0, 2.0)], ids=str)
def test_the_parameters_that_made_the_answers_are_found(
    exponent: float, temperature: float
) -> None:
    found = fit_calibration(drawn(exponent=exponent, temperature=temperature))
    assert math.isclose(found.exponent, exponent, abs_tol=0.15)
    assert math.isclose(found.temperature, temperature, rel_tol=0.2)
    assert found.error is not None
    assert found.error.queries == 1000
    assert found.error.expected_error < 0.06


def test_names_of_one_length_leave_the_exponent_alone() -> None:
    queries = drawn(exponent=0.0, temperature=0.5, lengths=torch.full((6,), 4))
    assert fit_calibration(queries).exponent == 0.0


def test_without_queries_it_is_a_plain_softmax() -> None:
    nothing = ScoredQueries(torch.empty(3, 0), torch.ones(3).long(), torch.empty(0).long())
    assert fit_calibration(nothing) == Calibration(0.0, 1.0, None)


def test_what_is_no_candidate_has_no_part_in_the_fit() -> None:
    queries = drawn(exponent=0.5, temperature=0.5, queries=200)
    others = torch.full((3, 200), -torch.inf)
    wider = ScoredQueries(
        torch.cat([queries.scores, others]),
        torch.cat([queries.lengths, torch.tensor([9, 9, 9])]),
        queries.answers,
    )
    first, second = fit_calibration(queries), fit_calibration(wider)
    assert math.isclose(first.exponent, second.exponent, abs_tol=1e-3)
    assert math.isclose(first.temperature, second.temperature, rel_tol=1e-3)


def test_a_query_without_its_answer_among_the_candidates_is_left_out() -> None:
    scores = torch.tensor([[-1.0, -torch.inf], [-2.0, -1.0]])
    queries = ScoredQueries(scores, torch.ones(2).long(), torch.tensor([0, 0]))
    assert len(queries.answerable) == 1


def test_errors_are_those_computed_by_hand() -> None:
    # Probabilities .75 and .25; the first query is answered by the better one, the second not.
    scores = torch.log(torch.tensor([[0.75, 0.75], [0.25, 0.25]]))
    queries = ScoredQueries(scores, torch.ones(2).long(), torch.tensor([0, 1]))
    found = calibration_error(queries, Calibration())
    assert math.isclose(found.expected_error, 0.25, abs_tol=1e-6)
    assert math.isclose(found.brier, (2 * 0.25**2 + 2 * 0.75**2) / 2, abs_tol=1e-6)
    assert math.isclose(found.nats, -(math.log(0.75) + math.log(0.25)) / 2, abs_tol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    exponent=st.floats(-1, 2), temperature=st.floats(0.1, 5), lengths=st.lists(st.integers(1, 9))
)
def test_equal_lengths_keep_the_order_of_scores(
    exponent: float, temperature: float, lengths: list[int]
) -> None:
    length = torch.full((4,), max(lengths, default=1))
    scores = torch.tensor([[-4.0], [-1.0], [-3.0], [-2.0]])
    logits = Calibration(exponent, temperature).logits(scores, length)
    assert logits[:, 0].argsort().tolist() == [0, 2, 3, 1]


def test_settings_survive_as_json() -> None:
    found = fit_calibration(drawn(exponent=0.5, temperature=0.5, queries=100))
    assert Calibration.from_json(found.to_json()) == found
