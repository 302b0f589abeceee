"""Swaps by a lexicon: both directions, whole units, swapped tokens as targets."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError, DataError
from seqmlm.masking.counterfactual import CounterfactualCorruptor
from seqmlm.masking.policy import Masked, MaskingPolicy
from seqmlm.masking.selectors import UnitSelector

ChiSquare = Callable[[npt.ArrayLike, npt.ArrayLike], float]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], CounterfactualCorruptor]:
    """Build a corruptor with the given lines as lexicon."""
    folder = tmp_path_factory.mktemp("lexicons")

    def corruptor(lines: str) -> CounterfactualCorruptor:
        path = folder / "lexicon.tsv"
        path.write_text(lines)
        return CounterfactualCorruptor(str(path))

    return corruptor


@pytest.fixture(scope="module")
def swapping(build: Callable[[str], CounterfactualCorruptor], words: Domain) -> MaskingPolicy:
    corruptor = build("king\tlady\nhis\ther\nhe\tshe\n")
    corruptor.fit(words, [])
    return MaskingPolicy(UnitSelector(), corruptor, rate=1.0)


def swap(domain: Domain, policy: MaskingPolicy, encoding: Encoding, seed: int = 0) -> Masked:
    return policy.apply(
        encoding,
        vocabulary=domain.vocabulary,
        token_range=domain.vocabulary.ranges[domain.name],
        generator=np.random.default_rng(seed),
    )


def test_both_directions_are_swapped_and_only_they_are_targets(
    words: Domain, swapping: MaskingPolicy
) -> None:
    """he and she differ in length: they stay and are not predicted."""
    encoding = words.parse("the king lost his hat. the lady found her hat. he")
    masked = swap(words, swapping, encoding)
    assert words.decode(masked.ids.tolist()) == "the lady lost her hat. the king found his hat. he"
    targets = words.decode(encoding.ids[masked.positions].tolist())
    assert targets == "kinghisladyher"
    counts = masked.counts
    assert (counts.selected, counts.predicted) == (14, 14)
    assert (counts.replaced, counts.kept) == (12, 2), "his and her share their first letter"


def test_words_that_only_contain_a_lexicon_word_stay(
    words: Domain, swapping: MaskingPolicy
) -> None:
    encoding = words.parse("kings kingdom history")
    masked = swap(words, swapping, encoding)
    assert np.array_equal(masked.ids, encoding.ids)
    assert not len(masked.positions)


@given(seed=st.integers(0, 2**32))
def test_a_second_swap_restores_the_text(words: Domain, swapping: MaskingPolicy, seed: int) -> None:
    letters = np.random.default_rng(seed).choice(["king", "lady", "his", "her", "a", "."], 12)
    encoding = words.parse(" ".join(letters))
    once = swap(words, swapping, encoding)
    changed = Encoding(once.ids, encoding.unit_ids, encoding.segment_ids)
    twice = swap(words, swapping, changed)
    assert np.array_equal(twice.ids, encoding.ids)
    assert np.array_equal(twice.positions, once.positions)


def test_a_word_in_several_pairs_draws_its_partner_by_weight(
    build: Callable[[str], CounterfactualCorruptor], words: Domain, chi_square_p: ChiSquare
) -> None:
    corruptor = build("her\this\nher\thim\t3\n")
    corruptor.fit(words, [])
    policy = MaskingPolicy(UnitSelector(), corruptor, rate=1.0)
    encoding = words.parse("her")
    found = [words.decode(swap(words, policy, encoding, s).ids.tolist()) for s in range(800)]
    assert chi_square_p([found.count("his"), found.count("him")], [200, 600]) > 1e-3


def test_the_rate_is_the_share_of_lexicon_words(
    build: Callable[[str], CounterfactualCorruptor], words: Domain
) -> None:
    corruptor = build("a\tb\n")
    corruptor.fit(words, [])
    policy = MaskingPolicy(UnitSelector(), corruptor, rate=0.3)
    encoding = words.parse("a c " * 500)
    assert swap(words, policy, encoding).counts.replaced == pytest.approx(150, abs=35)


def test_the_log_says_how_much_the_lexicon_covers(
    build: Callable[[str], CounterfactualCorruptor],
    words: Domain,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stored = np.array([words.vocabulary.id_of(letter) for letter in "his own hat"], np.uint8)
    with caplog.at_level(logging.INFO, "seqmlm"):
        build("his\ther\nhe\tshe\n").fit(words, [stored])
        build("cat\tdog\n").fit(words, [stored])
    assert "2 units can be swapped; 3 of 9 maskable tokens" in caplog.messages[0]
    assert "1 pairs of spellings with different numbers of tokens left out" in caplog.messages[0]
    assert "0 of 9 maskable tokens" in caplog.messages[1]
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "holds no line"),
        ("he\n", r"lexicon.tsv:1: 1 fields; a line is word TAB partner"),
        ("HE\tshe\n", r"lexicon.tsv:1: the text: 'H' is not"),
        ("he\tshe\n", "no pair can be swapped"),
        ("he\the\n", "no pair can be swapped"),
    ],
    ids=["empty", "fields", "not in the vocabulary", "lengths", "itself"],
)
def test_lexicons_that_cannot_be_used_are_explained(
    build: Callable[[str], CounterfactualCorruptor], words: Domain, lines: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        build(lines).fit(words, [])


def test_a_lexicon_is_needed() -> None:
    settings = {"corruptor": {"name": "counterfactual"}}
    with pytest.raises(ConfigError, match=r"policy\.corruptor\.lexicon: .* needs it"):
        MaskingPolicy.from_settings(settings, where="policy")


def test_a_missing_lexicon_is_named(words: Domain) -> None:
    with pytest.raises(DataError, match=r"absent\.tsv: cannot be read"):
        CounterfactualCorruptor("absent.tsv").fit(words, [])


def test_an_unfitted_corruptor_says_so(words: Domain) -> None:
    policy = MaskingPolicy(UnitSelector(), CounterfactualCorruptor("absent.tsv"), rate=1.0)
    with pytest.raises(ConfigError, match=r"call Objective\.fit"):
        swap(words, policy, words.parse("he"))
