"""What stands near what, and which units are used alike."""

from __future__ import annotations

import numpy as np
import pytest

from seqmlm.domain import Domain
from seqmlm.errors import DataError
from seqmlm.masking.cooccurrence import cooccurrences
from seqmlm.masking.neighbours import distributional_neighbours, unit_embeddings
from seqmlm.masking.policy import MaskingPolicy


def stored(words: Domain, *texts: str) -> list[np.ndarray]:
    return [np.array([words.vocabulary.id_of(c) for c in text], np.uint8) for text in texts]


def items(*numbers: int) -> tuple[np.ndarray, np.ndarray]:
    """Items that are units of their own."""
    return np.array(numbers, np.int32), np.arange(len(numbers), dtype=np.int32)


def test_neighbours_are_counted_within_the_window_and_the_sequence() -> None:
    """0 1 2 and 1 0: item 0 has neighbour 1 twice, and 2 only in a window of two."""
    sequences = [items(0, 1, 2), items(1, 0)]
    frequencies = np.array([3, 2, 1])
    narrow = cooccurrences(sequences, frequencies, window=1)
    assert narrow.tolist() == [[0, 2, 0, 0], [2, 0, 1, 0], [0, 1, 0, 0]]
    wide = cooccurrences(sequences, frequencies, window=2)
    assert wide.tolist() == [[0, 2, 1, 0], [2, 0, 1, 0], [1, 1, 0, 0]]


def test_rare_items_are_one_context_and_missing_ones_none_but_take_a_place() -> None:
    counts = cooccurrences([items(0, -1, 1)], np.array([1, 1]), window=1, most_contexts=1)
    assert counts.tolist() == [[0, 1], [0, 1]]  # item -1 is a neighbour that is no context


def test_tokens_of_one_unit_are_no_neighbours() -> None:
    ids, units = np.array([0, 1, 2], np.int32), np.array([0, 0, 1], np.int32)
    counts = cooccurrences([(ids, units)], np.ones(3, np.int64), window=2)
    assert counts[:, :3].tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]


def test_counts_are_symmetric_and_complete() -> None:
    generator = np.random.default_rng(0)
    sequences = [items(*generator.integers(0, 6, 40)) for _ in range(5)]
    counts = cooccurrences(sequences, np.arange(6, 0, -1), window=3)[:, :6]
    assert np.array_equal(counts, counts.T)
    assert counts.sum() == 5 * 2 * (39 + 38 + 37)


def test_items_in_equal_surroundings_point_the_same_way() -> None:
    """Items 0 and 1 are near 2, items 3 and 4 near 5."""
    counts = np.zeros((6, 7), np.uint32)
    counts[[0, 1], 2], counts[[3, 4], 5] = (30, 7), (20, 9)
    counts[2, :2], counts[5, 3:5] = (30, 7), (20, 9)
    vectors = unit_embeddings(counts, dimensions=4)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] == pytest.approx(1, abs=1e-5)
    assert cosines[3, 4] == pytest.approx(1, abs=1e-5)
    assert cosines[0, 3] == pytest.approx(0, abs=1e-5)


def sentences() -> list[str]:
    """Animals eat, tools cut; each pair of words of a kind has the same surroundings."""
    generator = np.random.default_rng(0)
    texts = []
    for _ in range(400):
        animal, food = generator.choice(["cat", "dog", "cow"]), generator.choice(["hay", "jam"])
        tool, thing = generator.choice(["axe", "saw"]), generator.choice(["oak", "elm"])
        texts.append(f"a {animal} eats {food}" if generator.random() < 0.5
                     else f"an {tool} cuts {thing}")  # fmt: skip
    return texts


def test_words_used_alike_are_neighbours_of_the_same_length(words: Domain) -> None:
    found = list(distributional_neighbours(words, stored(words, *sentences())))
    best: dict[str, list[str]] = {}
    for unit, neighbour, weight in found:
        assert len(unit) == len(neighbour)
        assert unit != neighbour
        assert 0.1 <= weight <= 1 + 1e-6
        best.setdefault(words.decode(unit), []).append(words.decode(neighbour))
    assert set(best["cat"][:2]) == {"dog", "cow"}
    assert best["axe"][0] == "saw"
    assert best["jam"][0] == "hay"


def test_the_same_corpus_gives_the_same_neighbours(words: Domain) -> None:
    sequences = stored(words, *sentences())
    first, again = (list(distributional_neighbours(words, sequences)) for _ in range(2))
    assert first == again


def test_a_policy_takes_the_neighbours_of_its_training_data(words: Domain) -> None:
    policy = MaskingPolicy.from_settings(
        {
            "rate": 1.0,
            "selector": {"name": "unit"},
            "corruptor": {
                **{"name": "similar", "table": "corpus"},
                **{"similar": 1, "random": 0, "keep": 0},
            },
        },
        where="policy",
    )
    policy.fit(words, stored(words, *sentences()))
    encoding = words.parse("cat zebu")
    masked = policy.apply(
        encoding,
        vocabulary=words.vocabulary,
        token_range=words.vocabulary.ranges["words"],
        generator=np.random.default_rng(0),
    )
    assert words.decode(masked.ids[:4].tolist()) in {
        unit for text in sentences() for unit in text.split()
    }
    assert masked.counts.without_candidate == len("zebu")


def test_too_little_data_for_neighbours_is_explained(words: Domain) -> None:
    with pytest.raises(DataError, match=r"occur 5 times or more in the training data; there are 0"):
        list(distributional_neighbours(words, stored(words, "the cat sat")))
