"""Processes share the checks of the GPU benchmark, and what was stopped is done again."""

from __future__ import annotations

from pathlib import Path

from benchmarks.gpu.claims import Claims


def test_each_piece_is_done_once_and_neighbours_by_the_same_process(tmp_path: Path) -> None:
    first, second = (Claims(tmp_path).turns(10, (index, 2)) for index in range(2))
    assert [next(first), next(second), next(first), next(second)] == [0, 5, 1, 6]
    # The first, left alone, ends its own share and then helps from the far end.
    assert list(first) == [2, 3, 4, 9, 8, 7]
    assert list(second) == []


def test_only_what_has_not_ended_is_done_in_a_later_round(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    for piece in claims.turns(4, (0, 1)):
        if piece != 2:
            claims.end(piece)
    assert list(Claims(tmp_path).turns(4, (0, 1))) == []
    claims.release()
    assert list(Claims(tmp_path).turns(4, (0, 1))) == [2]
