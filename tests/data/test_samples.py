"""Records to batches: a sample depends on (seed, epoch, record, objective) and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from seqmlm.data.packing import PackedBatch
from seqmlm.data.samples import (
    EVALUATION,
    SampleBuilder,
    evaluation_context,
    evaluation_samples,
)
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.objectives.clm import CausalLanguageModelling
from seqmlm.objectives.mlm import MaskedLanguageModelling
from seqmlm.objectives.prefix_lm import PrefixLanguageModelling
from seqmlm.objectives.rows import PrefixContext
from seqmlm.vocabulary import AllowedTokens

TEXTS = ["the quick brown fox", "jumps. over the", "lazy dog", "and runs far. far away into the"]


@pytest.fixture(scope="module")
def store(word_store: Callable[[Sequence[str]], TokenStore]) -> TokenStore:
    return word_store(TEXTS)


def builder(words: Domain, store: TokenStore, max_length: int = 40, seed: int = 0) -> SampleBuilder:
    objective = MaskedLanguageModelling(words, {"rate": 0.5})
    return SampleBuilder(words, store, [objective], max_length, seed)


def rows_of(batch: PackedBatch) -> list[list[int]]:
    return [part.tolist() for part in torch.split(batch.ids, batch.cu_seqlens.diff().tolist())]


def test_a_sample_does_not_depend_on_its_batch_mates(words: Domain, store: TokenStore) -> None:
    build = builder(words, store).batch
    together = rows_of(build(3, np.array([2, 0, 3, 1])))
    alone = [rows_of(build(3, np.array([record])))[0] for record in (2, 0, 3, 1)]
    assert together == alone


@pytest.mark.parametrize("max_length", [40, 8], ids=["whole", "windows"])
def test_epochs_and_seeds_give_other_masks_and_windows(
    words: Domain, store: TokenStore, max_length: int
) -> None:
    records = np.arange(4)
    made = [
        rows_of(builder(words, store, max_length, seed).batch(epoch, records))
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert made[0] == made[1]
    assert made[0] != made[2]
    assert made[0] != made[3]


def test_windows_are_cut_at_random_and_cover_the_record(words: Domain, store: TokenStore) -> None:
    build = builder(words, store, max_length=10)
    seen = set()
    for epoch in range(100):
        batch = build.batch(epoch, np.array([3]))
        assert batch.num_tokens == 10
        labels = batch.targets_for("mlm")
        ids = batch.ids.clone()
        ids[labels.rows] = labels.labels
        window = words.decode(ids.tolist())
        assert window in TEXTS[3]
        seen.add(TEXTS[3].index(window))
    assert seen >= {0, len(TEXTS[3]) - 8}


def test_each_objective_adds_its_rows_with_masks_of_its_own(
    words: Domain, store: TokenStore
) -> None:
    class Second(MaskedLanguageModelling):
        name = "second"

    objectives = [MaskedLanguageModelling(words, {"rate": 0.5}), Second(words, {"rate": 0.5})]
    batch = SampleBuilder(words, store, objectives, 40, 0).batch(0, np.array([0, 3]))
    assert batch.num_rows == 4
    first, second = batch.targets_for("mlm"), batch.targets_for("second")
    half = batch.cu_seqlens[1]
    assert set((first.rows[first.rows < half]).tolist()) != set(
        (second.rows[second.rows < 2 * half] - half).tolist()
    )


def test_evaluation_hides_the_same_tokens_behind_masks_every_time(
    words: Domain, store: TokenStore
) -> None:
    records = np.array([0, 3])
    first = evaluation_samples(words, store, records, max_length=40)
    again = evaluation_samples(words, store, records[::-1], max_length=40)[::-1]
    for sample, other in zip(first, again, strict=True):
        assert np.array_equal(sample.positions, other.positions)
        assert (sample.row.ids[sample.positions] == words.vocabulary.special.mask).all()
        untouched = np.setdiff1d(np.arange(len(sample.encoding)), sample.positions)
        assert np.array_equal(sample.row.ids[untouched], sample.encoding.ids[untouched])
        targets = sample.row.targets[EVALUATION]
        assert np.array_equal(targets.labels, sample.encoding.ids[sample.positions])
        assert isinstance(targets.allowed, AllowedTokens)
        assert np.flatnonzero(targets.allowed.mask()).tolist() == list(range(7, 33))


def test_only_windows_of_longer_records_are_cut(words: Domain, store: TokenStore) -> None:
    """Their end is not predicted. The record has 19 tokens; start and end come to them."""
    end = words.vocabulary.special.end
    for max_length, has_end in ((21, True), (20, False)):
        made = SampleBuilder(words, store, [CausalLanguageModelling(words)], max_length, seed=0)
        labels = made.batch(0, np.array([0])).targets["clm"].labels
        assert (labels == end).any() == has_end


def test_causal_evaluation_leaves_the_end_out(words: Domain, store: TokenStore) -> None:
    """The bars, which only count, do not predict it either."""
    (sample,) = evaluation_samples(
        words, store, np.array([0]), max_length=40, direction="left_to_right"
    )
    assert words.decode(sample.encoding.ids[sample.positions].tolist()) == "thequickbrownfox"


def test_evaluation_takes_the_first_window(words: Domain, store: TokenStore) -> None:
    (sample,) = evaluation_samples(words, store, np.array([3]), max_length=10)
    assert words.decode(sample.encoding.ids.tolist()) == TEXTS[3][:8]


@pytest.mark.parametrize("context", ["causal", "bidirectional"])
def test_evaluation_predicts_the_response_alone_where_there_is_one(
    words: Domain,
    store: TokenStore,
    context: PrefixContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The targets are the same, whichever way a run reads the context."""
    (whole,) = evaluation_samples(words, store, np.array([0]), max_length=40,
                                  direction="left_to_right")  # fmt: skip
    answer = replace(whole.encoding, response_start=11)
    monkeypatch.setattr(type(words), "assemble", lambda *_, **__: answer)
    (sample,) = evaluation_samples(
        words, store, np.array([0]), max_length=40, direction="left_to_right", context=context
    )
    assert words.decode(answer.ids[sample.positions].tolist()) == "brownfox"
    assert sample.positions.tolist() == [position for position in whole.positions if position >= 11]
    assert sample.row.targets[EVALUATION].positions.tolist() == (sample.positions - 1).tolist()
    assert sample.row.visibility is not None
    context_steps = sample.row.visibility.step[:11].tolist()
    assert context_steps == ([0] * 11 if context == "bidirectional" else list(range(11)))


def test_a_run_is_evaluated_on_contexts_as_its_first_objective_reads_them(words: Domain) -> None:
    prefix, causal = PrefixLanguageModelling(words), CausalLanguageModelling(words)
    assert evaluation_context([prefix, causal]) == "bidirectional"
    assert evaluation_context([causal, prefix]) == "causal"


def test_no_records_make_an_empty_batch(words: Domain, store: TokenStore) -> None:
    batch = builder(words, store).batch(0, np.empty(0, np.int64))
    assert batch.num_rows == 0
    assert torch.equal(batch.cu_seqlens, torch.zeros(1, dtype=torch.int32))
