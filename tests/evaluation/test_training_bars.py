from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.evaluation import report
from seqmlm.evaluation.report import fit_training_bars
from seqmlm.objectives.rows import Direction

BuildStore = Callable[[Sequence[str]], TokenStore]


def loss_of(
    domain: Domain,
    store: TokenStore,
    text: str,
    *,
    bar: str,
    sampling: Literal["record", "cluster"] = "record",
    direction: Direction | None = None,
) -> float:
    """What a bar that was fitted on all of a store reaches on the letters of a text."""
    every = np.arange(len(store))
    bars = fit_training_bars(
        domain, store, every, sampling=sampling, groups=every, direction=direction
    )
    ids = domain.parse(text).ids
    low, high = domain.vocabulary.ranges[domain.name]
    letters = np.flatnonzero((ids >= low) & (ids < high)).astype(np.int32)
    return float(bars.evaluate([ids], [letters[1:]])[bar].loss)


@pytest.mark.parametrize(
    ("bar", "direction"),
    [("unigram", None), ("unigram", "left_to_right"), ("bigram", "left_to_right")],
)
@pytest.mark.parametrize("sampling", ["record", "cluster"])
def test_bars_count_a_long_record_to_its_end(
    words: Domain,
    word_store: BuildStore,
    bar: str,
    direction: Direction | None,
    sampling: Literal["record", "cluster"],
) -> None:
    """A model that reads windows sees all of it in time."""
    store = word_store(["ab" * 6 + "cd" * 24, "ab" * 6])
    late = loss_of(words, store, "cdcdcdcd", bar=bar, sampling=sampling, direction=direction)
    early = loss_of(words, store, "abababab", bar=bar, sampling=sampling, direction=direction)
    assert late <= early + 1e-3
    if bar == "unigram":
        assert late < np.log(4) < early  # c and d are more than half of all letters


def test_bars_read_no_more_tokens_than_they_may(
    words: Domain, word_store: BuildStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = word_store(["abcd" * 50] * 20)
    read: list[int] = []
    assemble = type(words).assemble

    def counted(self: Domain, tokens: npt.NDArray[np.uint8], *, max_length: int) -> object:
        read.append(len(tokens))
        return assemble(self, tokens, max_length=max_length)

    monkeypatch.setattr(type(words), "assemble", counted)
    monkeypatch.setattr(report, "BAR_TOKENS", 1_000)
    loss_of(words, store, "abcd", bar="unigram")
    assert 0 < sum(read) <= 1_000
    monkeypatch.setattr(report, "BAR_TOKENS", 1)
    loss_of(words, store, "abcd", bar="unigram")  # the first record is read all the same
