"""Rates that change over the run, separate predict rates, static masks, and what is counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from seqmlm.data.samples import SampleBuilder, TrainingSequences
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.errors import ConfigError
from seqmlm.masking.counts import NUM_COUNTS, MaskCounts, add_counts
from seqmlm.masking.policy import Masked, MaskingPolicy
from seqmlm.masking.rate import RateSchedule
from seqmlm.objectives.mlm import MaskedLanguageModelling
from seqmlm.registry import SELECTORS


def policy(**settings: Any) -> MaskingPolicy:
    return MaskingPolicy.from_settings(settings, where="policy")


def hide(words: Domain, chosen: MaskingPolicy, text: str, seed: int = 0) -> Masked:
    return chosen.apply(
        words.parse(text),
        vocabulary=words.vocabulary,
        token_range=words.vocabulary.ranges["words"],
        generator=np.random.default_rng(seed),
    )


@pytest.mark.parametrize(
    ("shape", "quarter"), [("linear", 0.4), ("cosine", 0.5 - 0.4 * (1 - 2**-0.5) / 2)]
)
def test_a_schedule_goes_from_start_to_end(shape: Any, quarter: float) -> None:
    """Cosine by hand: (1 - cos(pi / 4)) / 2 of the way after a quarter of the run."""
    schedule = RateSchedule(0.5, 0.1, shape)
    found = [schedule.at(progress) for progress in (0, 0.25, 0.5, 1)]
    assert found == pytest.approx([0.5, quarter, 0.3, 0.1])
    assert schedule.mean == pytest.approx(np.mean([schedule.at(i / 999) for i in range(1000)]))


def test_the_objective_hides_what_the_schedule_says(words: Domain) -> None:
    objective = MaskedLanguageModelling(words, {"rate": {"start": 0.5, "end": 0.1}})
    encoding = words.parse("abcdefghij" * 4)
    hidden = [
        len(objective.at(progress).rows(encoding, np.random.default_rng(0))[0]
            .targets["mlm"].positions)
        for progress in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    assert hidden == [20, 12, 4]
    assert objective.mask_token_rate == pytest.approx(0.3 * 0.8)
    assert MaskedLanguageModelling(words).at(0.7).policy.rate == 0.15


@pytest.mark.parametrize(
    "rate",
    [
        {"start": 0.5},
        {"start": 0.5, "end": 0.1, "steps": 3},
        {"start": 0, "end": 0.1},
        {"start": 0.5, "end": 1.1},
        {"start": 0.5, "end": 0.1, "shape": "square"},
        {"start": "much", "end": 0.1},
    ],
)
def test_faulty_schedules_are_refused(rate: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"rate(\.\w+)? = .*"):
        policy(rate=rate)


def test_predicted_tokens_are_a_share_of_the_hidden_ones(words: Domain) -> None:
    chosen = policy(
        rate=0.5,
        predict_rate=0.2,
        corruptor={"name": "mixed", "mask": 1, "random": 0, "keep": 0},
    )
    text = "abcdefghij" * 10
    found = [hide(words, chosen, text, seed) for seed in range(50)]
    for masked in found:
        hidden = np.flatnonzero(masked.ids == words.vocabulary.special.mask)
        assert len(hidden) == 50
        assert len(masked.positions) == len(masked.groups) == 20
        assert set(masked.positions.tolist()) <= set(hidden.tolist())
        assert masked.counts == MaskCounts(100, 50, 50, 0, 0, 20, sequences=1)


def test_whole_units_are_predicted(words: Domain) -> None:
    chosen = policy(rate=1.0, predict_rate=0.5, selector={"name": "unit"})
    for seed in range(20):
        masked = hide(words, chosen, "abc abc abc abc", seed)
        assert np.unique(masked.groups, return_counts=True)[1].tolist() == [3, 3]


def test_more_than_what_is_hidden_cannot_be_predicted() -> None:
    with pytest.raises(ConfigError, match=r"predict_rate = 0.4: must be in \(0, 0.15\]"):
        policy(predict_rate=0.4)
    with pytest.raises(ConfigError, match=r"must be in \(0, 0.1\]"):
        policy(rate={"start": 0.5, "end": 0.1}, predict_rate=0.2)


@pytest.mark.parametrize(
    ("copies", "expected"), [(0, [0, 1, 2, 3]), (1, [0, 0, 0, 0]), (3, [0, 1, 2, 0])]
)
def test_static_masks_repeat(copies: int, expected: list[int], words: Domain) -> None:
    objective = MaskedLanguageModelling(words, {"copies": copies})
    assert [objective.mask_epoch(epoch) for epoch in range(4)] == expected


@pytest.mark.parametrize("selector", SELECTORS.builtin)
def test_every_selector_repeats_static_masks_and_renews_dynamic_ones(
    selector: str, typed_words: Domain, word_store: Callable[[Sequence[str]], TokenStore]
) -> None:
    store = word_store(["static masks come back every time", "and dynamic ones do not"])

    def masks_of_epochs(copies: int) -> list[bytes]:
        options = {"types": [0, 1]} if selector in ("typed", "group") else {}
        policy = {"rate": 0.4, "copies": copies, "selector": {"name": selector, **options}}
        objective = MaskedLanguageModelling(typed_words, policy)
        objective.fit(TrainingSequences(store, np.arange(2)))
        builder = SampleBuilder(typed_words, store, [objective], max_length=64, seed=0)
        return [builder.batch(epoch, np.arange(2)).ids.numpy().tobytes() for epoch in range(4)]

    assert len(set(masks_of_epochs(1))) == 1
    two = masks_of_epochs(2)
    assert two[:2] == two[2:]
    assert len(set(two)) == 2
    assert len(set(masks_of_epochs(0))) > 2


@pytest.mark.parametrize("copies", [-1, 1.5, True])
def test_copies_are_a_whole_number(copies: Any) -> None:
    with pytest.raises(ConfigError, match="copies ="):
        policy(copies=copies)


def test_counts_tell_what_the_encoder_sees(words: Domain) -> None:
    masked = hide(words, policy(rate=0.4), "abcdefghijklmnopqrstuvwxyz" * 30)
    counts, truth = masked.counts, words.parse("abcdefghijklmnopqrstuvwxyz" * 30).ids
    assert (counts.maskable, counts.selected) == (780, 312)
    assert counts.masked + counts.replaced + counts.kept == counts.selected == counts.predicted
    assert counts.masked == (masked.ids == words.vocabulary.special.mask).sum()
    assert counts.masked + counts.replaced == (masked.ids != truth).sum()


def test_counts_of_older_checkpoints_can_be_read(words: Domain) -> None:
    """They do not have the tokens without a candidate."""
    old: dict[str, Any] = {
        "maskable": 10,
        "selected": 2,
        "masked": 2,
        "replaced": 0,
        "kept": 0,
        "predicted": 2,
    }
    assert MaskCounts(**old) + MaskCounts(10, 2, 0, 2, 0, 2, 1) == MaskCounts(20, 4, 2, 2, 0, 4, 1)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (MaskCounts(), None),
        (MaskCounts(90, 9, 9, 0, 0, 9, sequences=10, without_target=5), None),
        (
            MaskCounts(90, 4, 4, 0, 0, 4, sequences=10, without_target=6),
            r"predict in 60\.0% of 10 sequences \(90 maskable tokens, 4 selected\): raise",
        ),
        (MaskCounts(1234, sequences=8, without_target=8), r"1,234 .* the objective learns nothing"),
        (MaskCounts(90, 9, 0, 0, 9, 0, sequences=8, without_target=8), "9 selected.*lexicon"),
        (MaskCounts(sequences=8, without_target=8), r"100\.0% of 8 sequences \(0 maskable"),
    ],
    ids=["no policy", "half", "most", "none selected", "none predicted", "none maskable"],
)
def test_sequences_without_a_target_are_a_reason_to_warn(
    counts: MaskCounts, message: str | None
) -> None:
    if message is None:
        assert counts.warning() is None
    else:
        assert re.search(message, counts.warning() or "")


def test_a_sequence_without_a_target_is_counted(words: Domain) -> None:
    assert hide(words, policy(rate=1.0), "word").counts.without_target == 0
    assert hide(words, policy(rate=1.0), ".").counts == MaskCounts(sequences=1, without_target=1)


def test_lengths_of_runs_are_counted_in_units(words: Domain) -> None:
    """Five words of three letters are hidden; the blanks between them, never hidden, part them."""
    chosen = policy(rate=1.0, selector={"name": "ngram"})
    counts = hide(words, chosen, "abc abc abc abc abc").counts
    assert counts.runs == (5, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert (counts.units_in_runs, counts.selected) == (5, 15)
    assert hide(words, policy(rate=1.0), "abc").counts.runs == (0,) * 10


def test_runs_of_ten_units_and_more_are_counted_together() -> None:
    counts = MaskCounts.of_runs(np.array([1, 1, 12, 10, 1, 2]))
    assert counts.runs == (3, 1, 0, 0, 0, 0, 0, 0, 0, 2)
    assert counts.describe().endswith("; runs by units 1: 50.0%, 2: 16.7%, 10+: 33.3% (mean 4.50)")


def test_counts_go_through_a_sum_over_ranks_and_a_checkpoint() -> None:
    counts = MaskCounts(60, 20, 16, 2, 2, 10) + MaskCounts.of_runs(np.array([1, 3, 3]))
    assert MaskCounts.from_numbers(counts.numbers()) == counts
    assert len(counts.numbers()) == NUM_COUNTS
    stored = json.loads(json.dumps(add_counts({}, {"mlm": counts})))
    assert add_counts(stored, {"mlm": counts})["mlm"]["runs"][:4] == (2, 0, 4, 0)
    assert MaskCounts(**stored["mlm"]) == counts


def test_counts_of_a_run_grow_by_those_of_a_step() -> None:
    done = {"mlm": {"maskable": 10, "selected": 2}}
    found = add_counts(done, {"mlm": MaskCounts(5, 1), "rtd": MaskCounts(7)})
    assert {name: (each["maskable"], each["selected"]) for name, each in found.items()} == {
        "mlm": (15, 3),
        "rtd": (7, 0),
    }
    assert done == {"mlm": {"maskable": 10, "selected": 2}}


def test_counts_add_up_and_describe_themselves() -> None:
    total = MaskCounts(60, 20, 16, 2, 2, 10) + MaskCounts(40, 10, 8, 1, 1, 5)
    assert total == MaskCounts(100, 30, 24, 3, 3, 15)
    assert total.describe() == (
        "30.00% of 100 maskable tokens selected (50.0% of these predicted): "
        "80.00% masked, 10.00% replaced, 10.00% kept"
    )
