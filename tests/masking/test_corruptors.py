"""What stands in the place of a chosen token."""

from __future__ import annotations

import numpy as np
import pytest

from seqmlm.errors import ConfigError
from seqmlm.masking.corruptors import MixedCorruptor, random_ids
from seqmlm.masking.selectors import Selection

MASK_ID = 32
TOKEN_RANGE = (4, 24)
TRUE_ID = 30  # outside the range: a random token is never the true one by chance


def corrupt(
    corruptor: MixedCorruptor,
    groups: np.ndarray,
    seed: int = 0,
    units: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Corrupt every second of the tokens; return the selected ids and the others."""
    ids = np.full(2 * len(groups), TRUE_ID, np.int32)
    positions = np.arange(0, len(ids), 2, dtype=np.int32)
    corrupted = corruptor.corrupt(
        ids,
        Selection(
            positions,
            groups.astype(np.int32),
            units=None if units is None else units.astype(np.int32),
        ),
        mask_id=MASK_ID,
        token_range=TOKEN_RANGE,
        uniform=np.random.default_rng(seed).random((len(groups), 2)),
    ).ids
    assert (ids == TRUE_ID).all(), "the true ids were changed"
    assert corrupted.dtype == np.int32
    return corrupted[positions], corrupted[1::2]


def shares(selected: np.ndarray) -> tuple[float, float, float]:
    in_range = (selected >= TOKEN_RANGE[0]) & (selected < TOKEN_RANGE[1])
    return (selected == MASK_ID).mean(), in_range.mean(), (selected == TRUE_ID).mean()


def test_bert_shares_hold_over_100_000_tokens() -> None:
    selected, others = corrupt(MixedCorruptor(), np.arange(100_000))
    assert shares(selected) == pytest.approx((0.8, 0.1, 0.1), abs=0.01)
    assert sum(shares(selected)) == pytest.approx(1)
    assert (others == TRUE_ID).all()


def test_replacements_are_uniform_over_the_range() -> None:
    selected, _ = corrupt(MixedCorruptor(mask=0, random=1, keep=0), np.arange(100_000))
    counts = np.bincount(selected, minlength=33)
    assert counts[: TOKEN_RANGE[0]].sum() == counts[TOKEN_RANGE[1] :].sum() == 0
    assert counts[slice(*TOKEN_RANGE)] / len(selected) == pytest.approx(0.05, abs=0.004)


def test_the_largest_random_number_is_still_in_the_range() -> None:
    """It was not: 7 + 26 * (1 - 2 ** -53) is 33 in float64, the end of the range 7 to 33."""
    largest = np.nextafter(1, 0)
    assert random_ids(np.array([0, largest]), (7, 33)).tolist() == [7, 32]


@pytest.mark.parametrize(
    ("mask", "random", "keep", "expected"),
    [
        (1, 0, 0, {MASK_ID}),
        (0, 0, 1, {TRUE_ID}),
        (0, 1, 0, set(range(*TOKEN_RANGE))),
        (0.5, 0, 0.5, {MASK_ID, TRUE_ID}),
    ],
    ids=["all masked", "all kept", "all random", "masked or kept"],
)
def test_shares_of_zero_and_one_are_exact(
    mask: float, random: float, keep: float, expected: set[int]
) -> None:
    selected, _ = corrupt(MixedCorruptor(mask=mask, random=random, keep=keep), np.arange(2000))
    assert set(selected.tolist()) == expected


def fates(selected: np.ndarray) -> np.ndarray:
    """0 masked, 1 kept, 2 random."""
    return np.select([selected == MASK_ID, selected == TRUE_ID], [0, 1], 2)


def test_tokens_of_a_group_share_their_fate_and_groups_do_not() -> None:
    groups = np.repeat(np.arange(20_000), 3)
    selected, _ = corrupt(MixedCorruptor(per="group"), groups)
    fate = fates(selected).reshape(-1, 3)
    assert (fate == fate[:, :1]).all()
    assert np.bincount(fate[:, 0]) / 20_000 == pytest.approx([0.8, 0.1, 0.1], abs=0.01)


def test_the_words_of_an_ngram_draw_one_by_one_and_their_tokens_do_not() -> None:
    """Bigrams of words of three tokens: per unit the two words agree as often as by chance.

    By hand: .8 * .8 + .1 * .1 + .1 * .1 = .66 of them.
    """
    units = np.repeat(np.arange(40_000), 3)
    selected, _ = corrupt(MixedCorruptor(per="unit"), groups=units // 2, units=units)
    fate = fates(selected).reshape(-1, 3)
    assert (fate == fate[:, :1]).all()
    assert np.bincount(fate[:, 0]) / 40_000 == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    first, second = fate[:, 0].reshape(-1, 2).T
    assert (first == second).mean() == pytest.approx(0.66, abs=0.01)


def test_units_can_only_draw_where_they_are_known() -> None:
    with pytest.raises(ConfigError, match="with per = 'unit' select through a masking policy"):
        corrupt(MixedCorruptor(per="unit"), np.arange(3))


def test_random_tokens_of_a_group_are_drawn_one_by_one() -> None:
    selected, _ = corrupt(MixedCorruptor(0, 1, 0, per="group"), np.repeat(np.arange(100), 3))
    assert (np.ptp(selected.reshape(-1, 3), axis=1) > 0).any()


def test_group_numbers_need_not_be_dense() -> None:
    selected, _ = corrupt(MixedCorruptor(per="group"), np.array([7, 7, 10**9, 10**9]))
    assert len(selected) == 4


@pytest.mark.parametrize("per", ["token", "unit", "group"])
def test_nothing_selected_changes_nothing(per: str) -> None:
    corruptor = MixedCorruptor(per=per)  # type: ignore[arg-type]
    nothing = np.empty(0, np.int32)
    ids = np.array([TRUE_ID], np.int32)
    corrupted = corruptor.corrupt(
        ids,
        Selection(nothing, nothing, units=nothing),
        mask_id=MASK_ID,
        token_range=TOKEN_RANGE,
        uniform=np.empty((0, 2)),
    ).ids
    assert corrupted.tolist() == [TRUE_ID]


@pytest.mark.parametrize(
    "given",
    [(0.8, 0.1, 0.2), (1.1, -0.1, 0.0), (0.0, 0.0, 0.0), (float("nan"), 0.1, 0.1)],
    ids=["more than 1", "negative", "nothing", "not a number"],
)
def test_shares_that_do_not_add_up_are_refused(given: tuple[float, float, float]) -> None:
    """NaN passed the check once: every comparison with it is false."""
    with pytest.raises(ConfigError, match="must be 0 or more and add up to 1"):
        MixedCorruptor(*given)


def test_unknown_sharing_is_refused() -> None:
    with pytest.raises(ConfigError, match="per = 'word'; it is 'token', 'unit' or 'group'"):
        MixedCorruptor(per="word")  # type: ignore[arg-type]
