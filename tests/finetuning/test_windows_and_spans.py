from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.domain import Domain
from seqmlm.finetuning.spans import best_span, log_softmax_by_row
from seqmlm.finetuning.windows import best_windows, cut, window_starts


@given(st.integers(1, 60), st.integers(1, 20), st.data())
def test_windows_cover_everything_and_none_is_longer_than_the_room(
    length: int, room: int, data: st.DataObject
) -> None:
    starts = window_starts(length, room, data.draw(st.integers(1, room)))
    covered = {place for start in starts for place in range(start, min(start + room, length))}
    assert covered == set(range(length))
    assert starts == sorted(set(starts))


@given(st.integers(1, 60), st.integers(2, 20))
def test_each_token_is_judged_where_most_tokens_surround_it(length: int, room: int) -> None:
    starts = window_starts(length, room, max(room // 2, 1))
    chosen = best_windows(length, room, starts)
    for token in range(length):
        around = [
            min(token - start, min(start + room, length) - 1 - token)
            if start <= token < start + room
            else -1
            for start in starts
        ]
        assert around[chosen[token]] == max(around) >= 0


def test_a_cut_keeps_the_special_tokens_and_the_numbers_of_units(words: Domain) -> None:
    whole = words.parse("ab cd ef")
    part = cut(whole, words.vocabulary.special, 3, 5)
    assert part.ids.tolist() == [whole.ids[0], *whole.ids[4:6].tolist(), whole.ids[-1]]
    assert part.unit_ids.tolist() == [-1, 1, 1, -1]


@given(st.integers(1, 7), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_the_best_span_is_that_of_trying_all(length: int, longest: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(length + 2, 2))
    first, last = 1, length + 1
    span = best_span(scores, first, last, max_tokens=longest)
    tried = {
        (i, j): scores[i, 0] + scores[j, 1]
        for i, j in itertools.product(range(first, last), repeat=2)
        if i <= j < i + longest
    }
    assert tried[span.start, span.end] == max(tried.values()) == span.log_probability


def test_a_span_never_ends_before_it_starts() -> None:
    scores = np.array([[0.0, 9.0], [9.0, 0.0]])
    span = best_span(scores, 0, 2, max_tokens=2)
    assert span.start <= span.end


def test_the_softmax_by_row_is_that_of_each_row_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(9, 2, generator=generator)
    candidates = torch.tensor([True, False, True, True, True, False, True, True, True])
    found = log_softmax_by_row(scores, candidates, torch.tensor([0, 4, 5, 9]))
    for start, end in ((0, 4), (4, 5), (5, 9)):
        chosen = torch.arange(start, end)[candidates[start:end]]
        expected = scores[chosen].log_softmax(dim=0)
        torch.testing.assert_close(found[chosen], expected)
    assert torch.isneginf(found[~candidates]).all()


def test_the_gradient_of_the_softmax_by_row_is_finite() -> None:
    scores = torch.randn(4, 2, requires_grad=True)
    candidates = torch.tensor([True, False, True, True])
    found = log_softmax_by_row(scores, candidates, torch.tensor([0, 4]))
    found[0, 0].backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[1].tolist() == [0, 0]


@pytest.mark.parametrize("columns", [1, 2])
def test_no_rows_have_no_softmax(columns: int) -> None:
    empty = torch.zeros(0, columns)
    found = log_softmax_by_row(empty, torch.zeros(0, dtype=torch.bool), torch.tensor([0]))
    assert found.shape == (0, columns)
