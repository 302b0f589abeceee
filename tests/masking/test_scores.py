"""Scores of tokens: what is surprising, what is telling, what a trained model finds hard."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from seqmlm.domain import Domain, build_domain
from seqmlm.encoding import Encoding
from seqmlm.errors import CheckpointError, ConfigError
from seqmlm.masking.model_scores import entropy, mean_model_scores, surprisal
from seqmlm.masking.scored import ScoredSelector
from seqmlm.masking.scores import mean_pointwise_mutual_information
from seqmlm.model.model import Model


def stored(words: Domain, *texts: str) -> list[np.ndarray]:
    return [np.array([words.vocabulary.id_of(c) for c in text], np.uint8) for text in texts]


def ids_of(words: Domain, letters: str) -> list[int]:
    return [words.vocabulary.id_of(letter) for letter in letters]


def test_the_signal_grows_with_the_exponent_on_a_zipf_vocabulary() -> None:
    """objectives.md 1, row 15: 2,000 tokens of frequency 1 / rank, 15 % of rows of 128.

    Uniform 5.60, exponent 1 6.52 (E[s^2] / E[s] = 6.60), exponent 2 7.18, the largest 9.07 nats.
    """
    size, length, chosen = 2_000, 128, 19
    frequency = 1 / np.arange(1, size + 1)
    frequency /= frequency.sum()
    nats = -np.log(frequency)
    assert (frequency * nats**2).sum() / (frequency * nats).sum() == pytest.approx(6.60, abs=0.005)
    domain: Any = SimpleNamespace(
        name="zipf", vocabulary=_Sized(size), token_ids=lambda tokens: tokens
    )
    corpus = [np.repeat(np.arange(size, dtype=np.uint16), np.round(frequency * 1e6).astype(int))]
    generator = np.random.default_rng(0)
    zeros, units = np.zeros(length, np.int32), np.arange(length, dtype=np.int32)
    rows = generator.choice(size, (400, length), p=frequency).astype(np.int32)

    def signal(exponent: float) -> float:
        selector = ScoredSelector(exponent=exponent)
        selector.fit(domain, corpus)
        costs = np.ones(length, np.int64)
        encodings = [Encoding(row, units, zeros) for row in rows]
        found = [
            nats[encoding.ids[selector.select(encoding, costs, chosen, generator).positions]]
            for encoding in encodings
        ]
        return float(np.mean(found))

    signals = [signal(exponent) for exponent in (0, 1, 2, 1_000)]
    assert signals == pytest.approx([5.60, 6.52, 7.18, 9.07], abs=0.06)


class _Sized:
    """As much of a vocabulary as counting needs."""

    def __init__(self, size: int) -> None:
        self.ranges = {"zipf": (0, size)}
        self._size = size

    def __len__(self) -> int:
        return self._size


def test_mutual_information_is_that_of_the_neighbours(words: Domain) -> None:
    """x only stands beside y; a and b stand beside each other and themselves.

    The score is sum_v p(v | w) log(p(v | w) / p(v)); ten usual neighbours are added to each row.
    """
    texts = ["x y"] * 30 + ["a b", "a a", "b b", "b a"] * 20
    scores = mean_pointwise_mutual_information(words, stored(words, *texts))
    x, y, a, b = ids_of(words, "xyab")
    # Neighbours counted by hand, as columns a, b, x, y: each pair counts in both directions.
    counts = {
        x: np.array([0, 0, 0, 30]),
        y: np.array([0, 0, 30, 0]),
        a: np.array([2 * 20, 2 * 20, 0, 0]),
        b: np.array([2 * 20, 2 * 20, 0, 0]),
    }
    usual = sum(counts.values()) / sum(row.sum() for row in counts.values())
    for token, row in counts.items():
        share = (row + 10 * usual) / (row.sum() + 10)
        assert scores[token] == pytest.approx((share * np.log(share / usual)).sum(), rel=1e-9)
    assert scores[x] > scores[a] > 0


def test_letters_of_a_word_are_not_its_neighbours(words: Domain) -> None:
    scores = mean_pointwise_mutual_information(words, stored(words, "xy", "ab"))
    assert not scores.any()


def test_mutual_information_is_never_negative_and_0_for_what_never_occurs(words: Domain) -> None:
    generator = np.random.default_rng(0)
    texts = ["".join(generator.choice(list("abcde f."), 50)) for _ in range(30)]
    scores = mean_pointwise_mutual_information(words, stored(words, *texts))
    assert (scores >= 0).all()
    assert (scores[ids_of(words, "abcdef")] > 0).all()
    assert not scores[ids_of(words, "ghz")].any()


def test_telling_words_are_chosen_before_common_ones(words: Domain) -> None:
    """The letter e stands everywhere, q only beside z."""
    texts = ["e a e b e c e d e"] * 30 + ["q z q z", "e e e e"] * 30
    selector = ScoredSelector("pmi", exponent=3.0)
    selector.fit(words, stored(words, *texts))
    encoding = words.parse("e e e q e e e")
    chosen = [
        selector.select(encoding, np.ones(7, np.int64), 1, np.random.default_rng(seed)).groups[0]
        for seed in range(200)
    ]
    assert chosen.count(3) > 150


@pytest.fixture
def saved(words: Domain, build_model: Callable[..., Model], tmp_path: Path) -> Path:
    """A tiny model on disk, whose domain is found again by its class."""
    model = build_model(words)
    model.save(tmp_path / "model")
    return tmp_path / "model"


def test_surprisal_and_entropy_are_those_of_the_distribution() -> None:
    log_p = torch.log(torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]))
    labels = torch.tensor([1, 2])
    np.testing.assert_allclose(surprisal(log_p, labels), np.log([4, 3]), rtol=1e-6)
    np.testing.assert_allclose(entropy(log_p, labels), [1.5 * np.log(2), np.log(3)], rtol=1e-6)


def test_model_scores_are_means_over_hidden_places(
    words: Domain, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = stored(words, *["the cat sat on the mat and the dog ran"] * 20)
    with caplog.at_level(logging.INFO, "seqmlm"):
        scores = mean_model_scores(words, texts, model=saved, measure=surprisal)
    low, high = words.vocabulary.ranges["words"]
    assert (scores[low:high] > 0).all()
    assert not scores[:low].any()
    never = scores[ids_of(words, "zxq")]
    assert np.ptp(never) == 0, "letters that were never hidden share the mean"
    seen = scores[ids_of(words, "theand")]
    assert seen.min() < never[0] < seen.max()
    assert "were never among them and get the mean" in caplog.text


def test_model_scores_are_always_the_same(words: Domain, saved: Path) -> None:
    texts = stored(words, "the cat sat on the mat", "a dog")
    first, again = (mean_model_scores(words, texts, model=saved, measure=entropy) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.max() <= np.log(26) + 1e-5, "no distribution over 26 letters has more"


def test_a_selector_takes_the_scores_of_a_model(words: Domain, saved: Path) -> None:
    texts = stored(words, *["the cat sat on the mat and the dog ran"] * 20)
    selector = ScoredSelector("model_surprisal", exponent=50.0, model=str(saved))
    selector.fit(words, texts)
    scores = mean_model_scores(words, texts, model=saved, measure=surprisal)
    encoding = words.parse("t h e a n d")
    letters = scores[ids_of(words, "theand")]
    costs = np.ones(6, np.int64)
    first = [
        selector.select(encoding, costs, 1, np.random.default_rng(seed)).groups[0]
        for seed in range(50)
    ]
    assert np.bincount(first, minlength=6).argmax() == letters.argmax()


def test_a_model_of_another_vocabulary_is_refused(
    words: Domain, build_model: Callable[..., Model], tmp_path: Path
) -> None:
    build_model(build_domain({"name": "protein"})).save(tmp_path / "model")
    selector = ScoredSelector("model_entropy", model=str(tmp_path / "model"))
    with pytest.raises(ConfigError, match=r"another vocabulary than this run \(\d+ and 33 tokens"):
        selector.fit(words, stored(words, "a"))


def test_a_folder_without_a_model_is_refused(words: Domain, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model here"):
        ScoredSelector("model_entropy", model=str(tmp_path)).fit(words, stored(words, "a"))


def test_data_without_maskable_tokens_is_refused(words: Domain, saved: Path) -> None:
    with pytest.raises(ConfigError, match="no token of the training data can be hidden"):
        mean_model_scores(words, stored(words, "..."), model=saved, measure=surprisal)


@pytest.mark.parametrize(
    "options",
    [{"scores": "model_entropy"}, {"scores": "pmi", "model": "runs/x"}, {"model": "runs/x"}],
    ids=["missing", "unused", "unused by default"],
)
def test_a_model_is_given_where_it_is_used(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="need the folder of a trained run"):
        ScoredSelector(**options)  # type: ignore[arg-type]
