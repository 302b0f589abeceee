"""Selectors that prefer some units, or take only some types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError, DataError
from seqmlm.masking.scored import ScoredSelector
from seqmlm.masking.scores import unigram_surprisal
from seqmlm.masking.typed import GroupSelector, TypedSelector

ChiSquare = Callable[[npt.ArrayLike, npt.ArrayLike], float]


def stored(words: Domain, *texts: str) -> list[np.ndarray]:
    return [np.array([words.vocabulary.id_of(c) for c in text], np.uint8) for text in texts]


def typed(*types: int) -> Encoding:
    """One unit of one token per type."""
    units = np.arange(len(types), dtype=np.int32)
    zeros = np.zeros_like(units)
    return Encoding(zeros, units, zeros, unit_types=np.array(types, np.int32))


def test_surprisal_is_minus_the_log_of_the_frequency(words: Domain) -> None:
    """3 a, 1 b, 26 letters: with one added, p(a) = 4/30, p(b) = 2/30, p(c) = 1/30."""
    surprisal = unigram_surprisal(words, stored(words, "aa b", "a."))
    a, b, c = (words.vocabulary.id_of(letter) for letter in "abc")
    expected = -np.log(np.array([4, 2, 1]) / 30)
    np.testing.assert_allclose(surprisal[[a, b, c]], expected)
    assert not surprisal[: words.vocabulary.ranges["words"][0]].any()


def test_the_first_choice_is_proportional_to_the_score(
    words: Domain, tmp_path: Path, chi_square_p: ChiSquare
) -> None:
    scores = {letter: 1.0 for letter in "abcdefghijklmnopqrstuvwxyz"} | {"b": 2.0, "c": 5.0}
    table = tmp_path / "scores.tsv"
    table.write_text("# letter, score\n" + "".join(f"{k}\t{v}\n" for k, v in scores.items()))
    selector = ScoredSelector(str(table))
    selector.fit(words, [])
    encoding = words.parse("a b c")
    generator = np.random.default_rng(0)
    costs = np.ones(3, np.int64)
    drawn = [selector.select(encoding, costs, 1, generator).groups[0] for _ in range(4_000)]
    assert chi_square_p(np.bincount(drawn, minlength=3), 4_000 * np.array([1, 2, 5]) / 8) > 1e-3


def test_surprising_units_are_chosen_more_often_the_larger_the_exponent(words: Domain) -> None:
    """Mean surprisal of what is chosen; theory for exponent 1 and few draws: E[s^2] / E[s]."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    weights = 1 / np.arange(1, 27) ** 1.5
    generator = np.random.default_rng(0)
    text = "".join(generator.choice(letters, 4_000, p=weights / weights.sum()))
    sequences = stored(words, text)
    surprisal = unigram_surprisal(words, sequences)
    encoding = words.parse(" ".join(text[:1_500]))
    own = surprisal[encoding.ids[encoding.unit_ids >= 0]]

    def mean_signal(exponent: float) -> float:
        selector = ScoredSelector(exponent=exponent)
        selector.fit(words, sequences)
        costs = np.ones(encoding.num_units, np.int64)
        chosen = [
            selector.select(encoding, costs, 15, np.random.default_rng(seed)).positions
            for seed in range(200)
        ]
        return float(surprisal[encoding.ids[np.concatenate(chosen)]].mean())

    signals = [mean_signal(exponent) for exponent in (0, 1, 2, 50)]
    assert signals[0] == pytest.approx(own.mean(), rel=0.02)
    assert signals[1] == pytest.approx((own**2).mean() / own.mean(), rel=0.02)
    assert signals == sorted(signals)
    assert signals[3] > 0.95 * np.sort(own)[-15:].mean()


@pytest.mark.parametrize(
    "exponent", [pytest.param(1.0, id="scores of 0"), pytest.param(1e300, id="equal scores")]
)
def test_equal_scores_are_chosen_in_random_order(
    words: Domain, exponent: float, chi_square_p: ChiSquare
) -> None:
    """The leftmost units were always chosen; pairs seen too rarely all have a PMI of 0."""
    if exponent == 1.0:
        selector = ScoredSelector("pmi")
        selector.fit(words, stored(words, "a"))
    else:
        selector = ScoredSelector(exponent=exponent)
        selector.fit(words, stored(words, "abcdefgh"))
    encoding = words.parse("a b c d e f g h")
    costs = np.ones(8, np.int64)
    drawn = [
        selector.select(encoding, costs, 1, np.random.default_rng(seed)).positions[0]
        for seed in range(2_000)
    ]
    places = np.flatnonzero(encoding.unit_ids >= 0)
    observed = [drawn.count(place) for place in places]
    assert chi_square_p(observed, np.full(8, 250)) > 1e-3


def test_an_unfitted_selector_says_so(words: Domain) -> None:
    with pytest.raises(ConfigError, match=r"call Objective\.fit"):
        ScoredSelector().select(words.parse("a"), np.ones(1, np.int64), 1, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no line"),
        ("a\n", r"scores.tsv:1: 1 fields"),
        ("aa\t1\n", r"scores.tsv:1: 'aa' is no token of domain 'words'"),
        ("a\tmany\n", r"scores.tsv:1: 'many' is not a number"),
        ("a\t0\n", r"scores.tsv:1: 0 must be a finite number above 0"),
        ("a\t1\n", r"25 of 26 tokens have no score, the first is 'b'"),
    ],
    ids=["empty", "fields", "unknown", "text", "zero", "missing"],
)
def test_faulty_score_files_are_explained(
    words: Domain, tmp_path: Path, content: str, message: str
) -> None:
    table = tmp_path / "scores.tsv"
    table.write_text(content)
    with pytest.raises(DataError, match=message):
        ScoredSelector(str(table)).fit(words, [])


def test_a_negative_exponent_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"exponent = -1"):
        ScoredSelector(exponent=-1)


def test_only_units_of_the_given_types_are_chosen() -> None:
    encoding = typed(0, 1, 2, 1, 0, 2)
    costs = np.ones(6, np.int64)
    for seed in range(20):
        chosen = TypedSelector([1, 2]).select(encoding, costs, 3, np.random.default_rng(seed))
        assert len(chosen.positions) == 3
        assert set(chosen.positions.tolist()) <= {1, 2, 3, 5}
    all_of_them = TypedSelector([1]).select(encoding, costs, 6, np.random.default_rng(0))
    assert all_of_them.positions.tolist() == [1, 3]


def test_a_group_is_hidden_whole_and_alone() -> None:
    encoding = typed(0, 1, 2, 1, 0, 2)
    chosen = {
        tuple(
            GroupSelector([0, 2, 7])
            .select(encoding, np.ones(6, np.int64), 1, np.random.default_rng(seed))
            .positions.tolist()
        )
        for seed in range(30)
    }
    assert chosen == {(0, 4), (2, 5)}


def test_a_sequence_without_the_group_hides_nothing() -> None:
    costs = np.ones(2, np.int64)
    chosen = GroupSelector([5]).select(typed(0, 1), costs, 1, np.random.default_rng(0))
    assert not len(chosen.positions)


@pytest.mark.parametrize("selector", [TypedSelector, GroupSelector])
def test_types_are_needed(selector: type[TypedSelector | GroupSelector], words: Domain) -> None:
    with pytest.raises(ConfigError, match="this domain gives its units no types"):
        selector([0]).select(words.parse("a"), np.ones(1, np.int64), 1, np.random.default_rng(0))
    with pytest.raises(ConfigError, match=r"domain '\S+WordDomain' gives its units no types"):
        selector([0]).fit(words, [])


@pytest.mark.parametrize("types", [[], [-1], [0.5], [True], "odd", 0])
def test_types_are_names_or_whole_numbers(types: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"types = .* list of types, by their"):
        TypedSelector(types)


@pytest.mark.parametrize("types", [["odd", "neither"], [1, "neither"], [1, 2]], ids=str)
def test_types_are_given_by_name_or_number(types: list[int | str], typed_words: Domain) -> None:
    selector = TypedSelector(types)
    selector.fit(typed_words, [])
    encoding = typed(0, 1, 2, 1, 0, 2)
    chosen = selector.select(encoding, np.ones(6, np.int64), 6, np.random.default_rng(0))
    assert chosen.positions.tolist() == [1, 2, 3, 5]


def test_names_are_known_to_the_domain_alone() -> None:
    with pytest.raises(ConfigError, match=r"types = \['odd', 1\]: call Objective.fit first"):
        TypedSelector(["odd", 1]).select(
            typed(0), np.ones(1, np.int64), 1, np.random.default_rng(0)
        )


@pytest.mark.parametrize("selector", [TypedSelector, GroupSelector])
@pytest.mark.parametrize(
    ("types", "message"),
    [
        ([0, 99], "has no type 99. It has: 0 even, 1 odd, 2 neither."),
        ([3], "has no type 3. It has: 0 even, 1 odd, 2 neither."),
        (["evn"], r"has no type 'evn'. Did you mean 'even'\? It has: 0 even, 1 odd"),
    ],
    ids=["99", "one too far", "mistyped"],
)
def test_types_that_the_domain_does_not_have_are_refused_with_those_it_has(
    selector: type[TypedSelector | GroupSelector],
    types: list[int | str],
    message: str,
    typed_words: Domain,
) -> None:
    """A run with them began, found nothing to predict in any sequence, and went on to its end."""
    with pytest.raises(ConfigError, match=message):
        selector(types).fit(typed_words, [])
