"""Sums over the predictions of one row, interpreted."""

from __future__ import annotations

import math

import pytest
import torch
from triton.errors import TritonError


@pytest.mark.parametrize("rows", [[4], [1, 1, 1], [2, 0, 2, 1, 0, 2], [3, 1, 0]], ids=str)
def test_sorting_and_comparing_link_rows_alike(rows: list[int]) -> None:
    from seqmlm_kernels.triton import repeated_rows

    tensor = torch.tensor(rows)
    compared, by_sorting = repeated_rows.link_rows(tensor), repeated_rows.link_by_sorting(tensor)
    assert torch.equal(compared.following, by_sorting.following)
    assert torch.equal(compared.rank, by_sorting.rank)
    later = [[j for j in range(i + 1, len(rows)) if rows[j] == row] for i, row in enumerate(rows)]
    assert compared.following.tolist() == [x[0] if x else len(rows) for x in later]
    assert compared.rank.tolist() == [
        rows[:i].count(row) if rows.count(row) > 1 else -1 for i, row in enumerate(rows)
    ]


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
    assert chains.following.tolist() == [len(rows)] * len(rows)
    assert chains.rank.tolist() == [-1] * len(rows)


@pytest.mark.parametrize("place", [0, 6, 7, 8, 15, 38])
def test_one_repetition_anywhere_is_found(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    from seqmlm_kernels.triton import repeated_rows

    monkeypatch.setattr(repeated_rows, "RISING_BLOCK", 8)
    rows = torch.arange(40)
    rows[place + 1] = rows[place]
    chains = repeated_rows.link_rows(rows)
    assert chains.rank.nonzero().flatten().tolist() == [i for i in range(40) if i != place]
    assert chains.rank[place + 1] == 1
    assert chains.following[place] == place + 1


@pytest.mark.parametrize("only_repeated", [True, False])
def test_long_chains_are_added_in_segments(
    only_repeated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments of 4 links, so that 70 predictions of one row are three levels and part of one."""
    from seqmlm_kernels.triton import repeated_rows

    monkeypatch.setattr(repeated_rows, "SEGMENT", 4)
    monkeypatch.setattr(repeated_rows, "HIDDEN_BLOCK", 16)
    generator = torch.Generator().manual_seed(0)
    rows = torch.cat((torch.full((70,), 2), torch.tensor([0, 3, 3, 4, 3, 3, 3, -1, 9])))
    rows = rows[torch.randperm(len(rows), generator=generator)]
    gradient = torch.randint(-9, 9, (len(rows), 40), generator=generator).float()
    expected = torch.full((6, 40), math.nan)
    for row in (2, 3) if only_repeated else (0, 2, 3, 4):
        expected[row] = gradient[rows == row].sum(0)
    output = torch.full((6, 40), math.nan)
    chains = repeated_rows.link_rows(rows)
    assert repeated_rows.spans_of(len(rows)) == [4, 16, 64, 256]
    repeated_rows.sum_chains(gradient, rows, chains, output, only_repeated=only_repeated)
    assert torch.equal(output.nan_to_num(1000), expected.nan_to_num(1000))


def test_no_program_follows_more_than_a_segment() -> None:
    from seqmlm_kernels.triton import repeated_rows

    assert repeated_rows.spans_of(1) == repeated_rows.spans_of(128) == [128]
    assert repeated_rows.spans_of(9830) == [128, 128**2]
    assert repeated_rows.spans_of(1_000_000) == [128, 128**2, 128**3]
