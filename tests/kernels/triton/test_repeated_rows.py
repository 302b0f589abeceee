"""Sums over the predictions of one row, interpreted."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from triton.errors import TritonError


@pytest.mark.parametrize(
    "rows", [[4], [1, 1, 1], [2, 0, 2, 1, 0, 2], [3, 1, 0], [-2, 5, -2, -1]], ids=str
)
def test_sorting_and_comparing_link_rows_alike(rows: list[int]) -> None:
    from seqmlm_kernels.triton import repeated_rows

    tensor = torch.tensor(rows)
    compared, by_sorting = repeated_rows.link_rows(tensor), repeated_rows.link_by_sorting(tensor)
    order = sorted(range(len(rows)), key=lambda place: rows[place])
    for chains in (compared, by_sorting):
        assert chains.order.tolist() == order
        assert [order[place] for place in chains.position.tolist()] == list(range(len(rows)))
        assert chains.rank.tolist() == [
            rows[:place].count(row) or -rows.count(row) for place, row in enumerate(rows)
        ]
        assert {x.dtype for x in (chains.order, chains.position, chains.rank)} == {torch.int32}


@pytest.mark.parametrize("rows", [[7], [1, 2, 5, 9], list(range(40))], ids=str)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_rows_that_rise_are_linked_without_comparing_all(
    monkeypatch: pytest.MonkeyPatch, rows: list[int], dtype: torch.dtype
) -> None:
    """Eight at a time; a block of 48, which is no power of two, fails when it is reached."""
    from seqmlm_kernels.triton import repeated_rows

    monkeypatch.setattr(repeated_rows, "RISING_BLOCK", 8)
    monkeypatch.setattr(repeated_rows, "COMPARED_BLOCK", 48)
    with pytest.raises(TritonError, match="power of 2"):
        repeated_rows.link_rows(torch.tensor([2, 1]))
    chains = repeated_rows.link_rows(torch.tensor(rows, dtype=dtype))
    assert chains.order.tolist() == chains.position.tolist() == list(range(len(rows)))
    assert chains.rank.tolist() == [-1] * len(rows)


@pytest.mark.parametrize("place", [0, 6, 7, 8, 15, 38])
def test_one_repetition_anywhere_is_found(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    from seqmlm_kernels.triton import repeated_rows

    monkeypatch.setattr(repeated_rows, "RISING_BLOCK", 8)
    rows = torch.arange(40)
    rows[place + 1] = rows[place]
    chains = repeated_rows.link_rows(rows)
    assert chains.rank.tolist() == [-1] * place + [-2, 1] + [-1] * (38 - place)
    assert chains.order.tolist() == list(range(40))


@pytest.mark.parametrize("only_repeated", [True, False])
@pytest.mark.parametrize("link", ["link_rows", "link_by_sorting"])
def test_rows_of_few_and_of_many_predictions_are_added_in_one_launch(
    link: str, only_repeated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four of a row one after the other, the rest 16 at a time: 70 and 21 are several tiles."""
    from seqmlm_kernels.triton import repeated_rows

    monkeypatch.setattr(repeated_rows, "SEGMENT", 4)
    monkeypatch.setattr(repeated_rows, "LONG_BLOCK", 16)
    monkeypatch.setattr(repeated_rows, "HIDDEN_BLOCK", 16)
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor([2] * 70 + [5] * 21 + [0, 3, 3, 4, 3, 3, 3, -1, -1, 9, 1, 1, 1, 1])
    rows = rows[torch.randperm(len(rows), generator=generator)]
    gradient = torch.randint(-9, 9, (len(rows), 40), generator=generator).float()
    expected = torch.full((6, 40), math.nan)
    for row in (1, 2, 3, 5) if only_repeated else (0, 1, 2, 3, 4, 5):
        expected[row] = gradient[rows == row].sum(0)
    output = torch.full((6, 40), math.nan)
    chains = getattr(repeated_rows, link)(rows)
    given = gradient.clone()
    repeated_rows.sum_chains(gradient, rows, chains, output, only_repeated=only_repeated)
    assert torch.equal(output.nan_to_num(1000), expected.nan_to_num(1000))
    assert torch.equal(gradient, given)


@pytest.mark.parametrize("num_predictions", [1, 128, 9830, 1_000_000])
def test_sum_is_one_launch_however_many_predictions_there_are(
    monkeypatch: pytest.MonkeyPatch, num_predictions: int
) -> None:
    from seqmlm_kernels.triton import repeated_rows

    launches: list[tuple[int, int]] = []

    class Recorded:
        def __getitem__(self, grid: tuple[int, int]) -> Callable[..., None]:
            launches.append(grid)
            return lambda *arguments, **options: None

    monkeypatch.setattr(repeated_rows, "sum_chains_kernel", Recorded())
    rows = torch.empty(num_predictions, dtype=torch.int32, device="meta")
    chains = repeated_rows.RowChains(rows, rows, rows)
    gradient = torch.empty(num_predictions, 200, device="meta")
    repeated_rows.sum_chains(gradient, rows, chains, gradient, only_repeated=True)
    assert launches == [(-(-num_predictions // 32), 4)]
