from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def test_units_are_counted_without_the_unmaskable_tokens() -> None:
    encoding = Encoding(ints(0, 5, 6, 7, 2), ints(-1, 0, 0, 1, -1), ints(0, 0, 0, 0, 0))
    assert len(encoding) == 5
    assert encoding.num_units == 2


@pytest.mark.parametrize("units", [(), (-1, -1)], ids=["empty", "special tokens"])
def test_a_sequence_may_have_no_unit(units: tuple[int, ...]) -> None:
    assert Encoding(ints(*units), ints(*units), ints(*units)).num_units == 0


@pytest.mark.parametrize("name", ["unit_ids", "segment_ids", "position_ids", "offsets", "role_ids"])
def test_columns_of_another_length_are_refused(name: str) -> None:
    columns: dict[str, Any] = {"ids": ints(1, 2), "unit_ids": ints(0, 1), "segment_ids": ints(0, 0)}
    with pytest.raises(ConfigError, match=f"{name} has 3 entries for 2 ids"):
        Encoding(**columns | {name: ints(0, 1, 2)})


def test_unit_types_are_one_per_unit() -> None:
    columns: dict[str, Any] = {
        "ids": ints(1, 2, 3),
        "unit_ids": ints(0, 0, 1),
        "segment_ids": ints(0, 0, 0),
    }
    assert Encoding(**columns, unit_types=ints(4, 5)).num_units == 2
    with pytest.raises(ConfigError, match="unit_types has 3 entries for 2 units"):
        Encoding(**columns, unit_types=ints(4, 4, 5))


@pytest.mark.parametrize("start", [1, 3])
def test_a_response_follows_something_and_may_still_be_empty(start: int) -> None:
    columns: dict[str, Any] = {
        "ids": ints(1, 2, 3),
        "unit_ids": ints(0, 0, 1),
        "segment_ids": ints(0, 0, 0),
    }
    assert Encoding(**columns, response_start=start).response_start == start
    for outside in (0, 4):
        with pytest.raises(ConfigError, match=f"response_start is {outside}; with 3 ids"):
            Encoding(**columns, response_start=outside)
