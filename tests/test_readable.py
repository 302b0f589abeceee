"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from seqmlm.readable import readable


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0.25, "0.2500"),
        (-3.0, "-3.0000"),
        (999_999.5, "999999.5000"),
        (1_234_567.0, "1.23457e+06"),
        (-3.4e38, "-3.4e+38"),
        (math.inf, "inf"),
        (math.nan, "-"),
    ],
)
def test_numbers_are_short_whatever_their_size(number: float, expected: str) -> None:
    """Of targets of 1e30 the squared error was written in 31 digits and four decimals."""
    assert readable(number) == expected


def test_decimals_are_as_many_as_asked_for() -> None:
    assert readable(2 / 3, 2) == "0.67"
