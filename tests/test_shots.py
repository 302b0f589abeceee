"""The few-shot sets that benchmarks share."""

from __future__ import annotations

import pytest

from benchmarks.shots import FULL, draw_shots

LABELS = ["b", "a", "b", "a", "b", "c", "c"]


def test_each_class_gives_so_many_examples() -> None:
    for seed in range(10):
        drawn = draw_shots(LABELS, shots=2, seed=seed)
        assert [LABELS[position] for position in drawn] == ["a", "a", "b", "b", "c", "c"]
        assert len(set(drawn)) == 6
        assert drawn == draw_shots(LABELS, shots=2, seed=seed)
    assert len({tuple(draw_shots(LABELS, shots=1, seed=seed)) for seed in range(10)}) > 1


def test_all_examples_are_taken_in_order_and_too_few_are_refused() -> None:
    assert draw_shots(LABELS, shots=FULL, seed=1) == list(range(7))
    with pytest.raises(ValueError, match="larger than population"):
        draw_shots(LABELS, shots=3, seed=0)
