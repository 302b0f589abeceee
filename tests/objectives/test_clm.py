"""Causal language modelling in both directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from seqmlm.data.packing import pack
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError
from seqmlm.model.model import Model
from seqmlm.objectives.clm import CausalLanguageModelling, predictable
from seqmlm.objectives.rows import Direction, Row
from seqmlm.vocabulary import AllowedTokens

Models = Callable[..., Model]
DIRECTIONS: list[Direction] = ["left_to_right", "right_to_left"]


def row_of(words: Domain, text: str, direction: Direction = "left_to_right") -> Row:
    objective = CausalLanguageModelling(words, direction)
    (row,) = objective.rows(words.parse(text), np.random.default_rng(0))
    return row


def test_each_letter_is_predicted_where_the_token_before_it_stands(words: Domain) -> None:
    """<start> a b . c <end>: blanks and dots are context, never targets; the end is one."""
    row = row_of(words, "ab.c")
    targets, ids = row.targets["clm"], row.ids
    assert targets.positions.tolist() == [0, 1, 3, 4]
    assert targets.labels.tolist() == [ids[1], ids[2], ids[4], words.vocabulary.special.end]
    assert row.visibility is not None
    assert row.visibility.step.tolist() == row.visibility.reach.tolist() == [0, 1, 2, 3, 4, 5]
    assert set(row.visibility.group.tolist()) == {-1}


def test_right_to_left_is_the_mirror_image(words: Domain) -> None:
    row = row_of(words, "ab.c", "right_to_left")
    targets, ids = row.targets["clm"], row.ids
    assert targets.positions.tolist() == [1, 2, 3, 5]
    assert targets.labels.tolist() == [words.vocabulary.special.start, ids[1], ids[2], ids[4]]
    assert row.visibility is not None
    assert row.visibility.step.tolist() == row.visibility.reach.tolist() == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("options", [{}, {"window": 2}, {"token_dropout": True}])
def test_tokens_to_come_change_nothing(
    words: Domain,
    build_model: Models,
    direction: Direction,
    backend: str,
    options: dict[str, object],
) -> None:
    """Bit for bit: the state from which a token is predicted does not know it or what follows."""
    model = build_model(words, backend=backend, **options)
    row = row_of(words, "abc def ghi jkl", direction)
    before = model(pack([row]))
    for changed in (5, 9):
        ids = row.ids.copy()
        ids[changed] = words.vocabulary.id_of("z")
        after = model(pack([replace(row, ids=ids)]))
        seen = slice(changed + 1, None) if direction == "right_to_left" else slice(changed)
        assert torch.equal(before[seen], after[seen])
        assert not torch.equal(before[changed], after[changed])


def test_the_loss_is_the_sum_of_stepwise_runs(words: Domain, build_model: Models) -> None:
    """Chain rule: one pass gives what a run per prefix, which holds no future at all, gives."""
    model = build_model(words)
    objective = CausalLanguageModelling(words)
    row = row_of(words, "some words")
    batch = pack([row])
    whole = objective.loss(model, model(batch), batch)
    assert row.visibility is not None
    targets = row.targets["clm"]
    steps = []
    for position, label in zip(targets.positions, targets.labels, strict=True):
        end = int(position) + 1
        visible = row.visibility
        prefix = Row(
            row.ids[:end],
            row.position_ids[:end],
            row.segment_ids[:end],
            replace(
                visible,
                step=visible.step[:end],
                reach=visible.reach[:end],
                group=visible.group[:end],
            ),
        )
        hidden = model(pack([prefix]))
        steps.append(
            model.token_head.loss(
                hidden,
                torch.tensor([end - 1]),
                torch.tensor([int(label)]),
                allowed=batch.targets["clm"].allowed,
            )
        )
    torch.testing.assert_close(whole.total, torch.cat(steps).sum(), rtol=1e-5, atol=1e-5)
    assert float(whole.count) == 9 + 1  # letters and the end


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_where_a_window_is_cut_no_end_is_predicted(words: Domain, direction: Direction) -> None:
    """The model would learn to stop in mid-sentence."""
    objective = CausalLanguageModelling(words, direction)
    cut = replace(words.parse("ab.c"), is_cut=True)
    (row,) = objective.rows(cut, np.random.default_rng(0))
    assert sorted(row.targets["clm"].labels) == sorted(row.ids[[1, 2, 4]])


def test_a_last_token_that_is_no_end_is_predicted_as_any_other(words: Domain) -> None:
    """A cut response ends without an end token."""
    whole = words.parse("ab")
    cut = Encoding(whole.ids[:-1], whole.unit_ids[:-1], whole.segment_ids[:-1])
    special = words.vocabulary.special
    assert predictable(cut, "left_to_right", last=special.end).tolist() == [1, 2]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_letters_and_the_end_may_be_predicted_and_nothing_else(
    words: Domain, direction: Direction
) -> None:
    allowed = row_of(words, "ab", direction).targets["clm"].allowed
    assert isinstance(allowed, AllowedTokens)
    special = words.vocabulary.special
    last = special.end if direction == "left_to_right" else special.start
    assert np.flatnonzero(allowed.mask()).tolist() == [last, *range(7, 33)]


def test_of_a_sequence_without_letters_only_the_end_is_predicted(words: Domain) -> None:
    targets = row_of(words, ". .").targets["clm"]
    assert targets.labels.tolist() == [words.vocabulary.special.end]


def test_unknown_directions_are_refused(words: Domain) -> None:
    with pytest.raises(ConfigError, match="'left_to_right' or 'right_to_left'"):
        CausalLanguageModelling(words, "up")  # type: ignore[arg-type]
