"""Two sequences in one row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError
from seqmlm.pairs import join_encodings
from seqmlm.vocabulary import SpecialTokens

START, END = 2, 3
SPECIAL = SpecialTokens(padding=0, unknown=1, start=START, end=END, mask=4)


def sequence(ids: list[int], *, types: list[int] | None = None) -> Encoding:
    """Start, content with a unit per token, end."""
    units = [-1, *range(len(ids)), -1]
    return Encoding(
        ids=np.array([START, *ids, END], np.int32),
        unit_ids=np.array(units, np.int32),
        segment_ids=np.zeros(len(units), np.int32),
        unit_types=None if types is None else np.array(types, np.int32),
    )


def test_a_pair_is_written_as_bert_writes_it() -> None:
    pair = join_encodings(sequence([10, 11]), sequence([20]), special=SPECIAL, max_length=10)
    assert pair.ids.tolist() == [START, 10, 11, END, 20, END]
    assert pair.segment_ids.tolist() == [0, 0, 0, 0, 1, 1]
    assert pair.unit_ids.tolist() == [-1, 0, 1, -1, 2, -1]


def test_the_longer_side_gives_way_first() -> None:
    long, short = sequence(list(range(10, 20))), sequence([20, 21])
    assert join_encodings(long, short, special=SPECIAL, max_length=9).ids.tolist() == [
        *(START, 10, 11, 12, 13, END),
        *(20, 21, END),
    ]
    assert join_encodings(short, long, special=SPECIAL, max_length=9).ids.tolist() == [
        *(START, 20, 21, END),
        *(10, 11, 12, 13, END),
    ]


def test_a_question_is_kept_whole_when_the_context_alone_is_shortened() -> None:
    question, context = sequence([10, 11, 12, 13]), sequence([20, 21, 22])
    pair = join_encodings(question, context, special=SPECIAL, max_length=8, shorten="second")
    assert pair.ids.tolist() == [START, 10, 11, 12, 13, END, 20, END]


def test_types_follow_the_units_that_are_left() -> None:
    pair = join_encodings(
        sequence([10, 11, 12], types=[5, 6, 7]),
        sequence([20], types=[8]),
        special=SPECIAL,
        max_length=6,
    )
    assert pair.unit_types is not None
    assert pair.unit_types.tolist() == [5, 6, 8]


def test_a_pair_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.max_length = 4"):
        join_encodings(sequence([10]), sequence([20]), special=SPECIAL, max_length=4)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(5, 40))
def test_a_pair_fits_and_drops_nothing_that_fits(left: int, right: int, max_length: int) -> None:
    pair = join_encodings(
        sequence([10] * left), sequence([20] * right), special=SPECIAL, max_length=max_length
    )
    assert len(pair) == min(left + right + 3, max_length)
    kept_left, kept_right = int((pair.ids == 10).sum()), int((pair.ids == 20).sum())
    assert kept_left >= 1
    assert kept_right >= 1
    if kept_left < left:
        assert kept_left >= kept_right - 1 or kept_right == right
    if kept_right < right:
        assert kept_right >= kept_left - 1 or kept_left == left
