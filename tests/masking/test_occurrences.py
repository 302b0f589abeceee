from __future__ import annotations

import numpy as np
import pytest

from seqmlm.encoding import Encoding
from seqmlm.masking.occurrences import OccurrencesSelector
from seqmlm.masking.policy import MaskingPolicy

# Units: "5 6", "7", "5 6", "7", "7", "8"; tokens of no unit between them.
IDS = [1, 5, 6, 9, 7, 9, 5, 6, 9, 7, 9, 7, 8, 2]
UNITS = [-1, 0, 0, -1, 1, -1, 2, 2, -1, 3, -1, 4, 5, -1]


@pytest.fixture
def encoding() -> Encoding:
    ids, units = np.array(IDS, np.int32), np.array(UNITS, np.int32)
    return Encoding(ids, units, np.zeros(len(ids), np.int32))


@pytest.mark.parametrize("seed", range(20))
def test_a_name_is_hidden_wherever_it_stands(encoding: Encoding, seed: int) -> None:
    costs = np.ones(6, np.int64)
    selection = OccurrencesSelector().select(encoding, costs, 3, np.random.default_rng(seed))
    chosen = set(encoding.unit_ids[selection.positions].tolist())
    for occurrences in ({0, 2}, {1, 3, 4}, {5}):
        assert chosen >= occurrences or not chosen & occurrences


def test_all_names_are_hidden_when_the_budget_allows(encoding: Encoding) -> None:
    costs = np.array([2, 1, 2, 1, 1, 1])
    selection = OccurrencesSelector().select(encoding, costs, 8, np.random.default_rng(0))
    assert selection.positions.tolist() == np.flatnonzero(encoding.unit_ids >= 0).tolist()
    assert len(set(selection.groups.tolist())) == 3


def test_the_expected_amount_is_the_budget(encoding: Encoding) -> None:
    costs = np.ones(6, np.int64)
    generator = np.random.default_rng(0)
    made = [OccurrencesSelector().select(encoding, costs, 2, generator) for _ in range(4_000)]
    units = [len(set(encoding.unit_ids[each.positions].tolist())) for each in made]
    assert np.mean(units) == pytest.approx(2.0, abs=0.06)


def test_a_sequence_without_units_hides_nothing() -> None:
    ids = np.array([1, 2], np.int32)
    encoding = Encoding(ids, np.array([-1, -1], np.int32), np.zeros(2, np.int32))
    selection = OccurrencesSelector().select(
        encoding, np.zeros(0, np.int64), 0, np.random.default_rng(0)
    )
    assert not len(selection.positions)


def test_it_is_chosen_by_name() -> None:
    settings = {"rate": 0.2, "per": "unit", "selector": {"name": "occurrences"}}
    policy = MaskingPolicy.from_settings(settings, where="objectives.0.policy")
    assert isinstance(policy.selector, OccurrencesSelector)
