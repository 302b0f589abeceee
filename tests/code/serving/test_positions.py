"""Columns in code units and in code points."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm_domains.code.serving.positions import (
    PositionEncoding,
    column_from_units,
    units_from_column,
)

SMILE = "\N{GRINNING FACE}"
ENCODINGS: list[PositionEncoding] = ["utf-8", "utf-16", "utf-32"]
ANY_CHARACTER = st.characters(codec=None)


# The closing quotation mark of x="😀": the example of the specification.
@pytest.mark.parametrize(("encoding", "units"), [("utf-8", 7), ("utf-16", 5), ("utf-32", 4)])
def test_an_astral_character_is_four_two_or_one_units(
    encoding: PositionEncoding, units: int
) -> None:
    line = f'x="{SMILE}"'
    assert units_from_column(line, 4, encoding) == units
    assert column_from_units(line, units, encoding) == 4


@pytest.mark.parametrize(
    ("encoding", "units"), [("utf-8", 2), ("utf-8", 3), ("utf-8", 4), ("utf-16", 2)], ids=str
)
def test_a_position_within_a_character_is_before_it(encoding: PositionEncoding, units: int) -> None:
    assert column_from_units(f"a{SMILE}b", units, encoding) == 1


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("line", ["", "abc", f"ä{SMILE}"], ids=ascii)
def test_past_the_end_of_a_line_is_its_end(line: str, encoding: PositionEncoding) -> None:
    assert column_from_units(line, 2**31 - 1, encoding) == len(line)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(line=st.text(ANY_CHARACTER), column=st.integers(0, 200))
def test_columns_survive_the_way_there_and_back(
    encoding: PositionEncoding, line: str, column: int
) -> None:
    column = min(column, len(line))
    if line[:column].endswith(tuple(map(chr, range(0xD800, 0xDC00)))):
        return  # a lone high surrogate that a low one follows is half a character
    units = units_from_column(line, column, encoding)
    assert column_from_units(line, units, encoding) == column
