"""A context that sees itself whole, and a response in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from seqmlm.data.packing import pack
from seqmlm.domain import Domain
from seqmlm.model.model import Model
from seqmlm.objectives.prefix_lm import PrefixLanguageModelling
from seqmlm.objectives.rows import Row

Models = Callable[..., Model]

MIDDLE = 1  # a seed whose split is not near an end


def row_of(words: Domain, text: str, seed: int = 0) -> tuple[Row, int]:
    """The row and the length of its context."""
    objective = PrefixLanguageModelling(words)
    (row,) = objective.rows(words.parse(text), np.random.default_rng(seed))
    assert row.visibility is not None
    return row, int((row.visibility.step == 0).sum())


def test_the_context_has_step_0_and_the_response_counts_from_1(words: Domain) -> None:
    row, prefix = row_of(words, "abcdef")
    assert row.visibility is not None
    expected = [0] * prefix + list(range(1, len(row.ids) - prefix + 1))
    assert row.visibility.step.tolist() == row.visibility.reach.tolist() == expected
    targets = row.targets["prefix_lm"]
    assert targets.positions.tolist() == list(range(prefix - 1, 7))
    assert targets.labels.tolist() == row.ids[prefix:].tolist()
    assert row.ids[-1] == words.vocabulary.special.end


def test_where_a_window_is_cut_no_end_is_predicted(words: Domain) -> None:
    cut = replace(words.parse("abcdef"), is_cut=True)
    (row,) = PrefixLanguageModelling(words).rows(cut, np.random.default_rng(0))
    whole, _ = row_of(words, "abcdef")
    assert (
        row.targets["prefix_lm"].labels.tolist() == whole.targets["prefix_lm"].labels.tolist()[:-1]
    )


def test_every_split_is_drawn_equally_often(
    words: Domain, chi_square_p: Callable[[object, object], float]
) -> None:
    prefixes = [row_of(words, "abcdef", seed)[1] for seed in range(1_200)]
    counts = np.bincount(prefixes, minlength=7)[1:]
    assert counts.sum() == 1_200
    assert chi_square_p(counts, [200] * 6) > 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_a_response_that_the_encoding_gives_is_the_one_predicted(words: Domain, seed: int) -> None:
    encoding = replace(words.parse("abc def"), response_start=4)
    (row,) = PrefixLanguageModelling(words).rows(encoding, np.random.default_rng(seed))
    assert row.visibility is not None
    assert row.visibility.step.tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5]
    targets = row.targets["prefix_lm"]
    assert targets.positions.tolist() == [4, 5, 6, 7], "the blank is never predicted"
    assert targets.labels.tolist() == row.ids[5:].tolist()


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_the_context_does_not_know_the_response(
    words: Domain, build_model: Models, backend: str
) -> None:
    """Bit for bit; and the response is causal."""
    model = build_model(words, backend=backend)
    row, prefix = row_of(words, "abc def ghi jkl", seed=MIDDLE)
    assert 3 < prefix < 12
    before = model(pack([row]))
    for changed in (prefix, prefix + 2):
        ids = row.ids.copy()
        ids[changed] = words.vocabulary.id_of("z")
        after = model(pack([replace(row, ids=ids)]))
        assert torch.equal(before[:changed], after[:changed])
        assert not torch.equal(before[changed:], after[changed:])


def test_the_context_sees_itself_from_both_sides(words: Domain, build_model: Models) -> None:
    model = build_model(words)
    row, prefix = row_of(words, "abc def ghi jkl", seed=MIDDLE)
    ids = row.ids.copy()
    ids[prefix - 1] = words.vocabulary.id_of("z")
    changed = (model(pack([row])) != model(pack([replace(row, ids=ids)]))).any(dim=1)
    assert changed[:prefix].all()


def test_a_sequence_without_letters_is_all_context(words: Domain) -> None:
    row, prefix = row_of(words, ". .")
    assert prefix == len(row.ids)
    assert not len(row.targets["prefix_lm"].positions)
