from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmlm.encoding import IntArray
from seqmlm.errors import ConfigError, DataError
from seqmlm.evaluation import bars as bars_module
from seqmlm.evaluation import counting
from seqmlm.evaluation.bars import (
    ADJACENT,
    COMPOSITION,
    CONTEXT,
    UNIGRAM,
    Bars,
    Context,
    fit_bars,
)
from seqmlm.evaluation.counting import association, count, smoothed_frequencies

START, END, LOW = 2, 3, 5
FloatArray = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]


def framed(codes: npt.ArrayLike) -> IntArray:
    """Return codes as ids between a start and an end token."""
    return np.concatenate([[START], np.asarray(codes) + LOW, [END]]).astype(np.int32)


def every_seventh(sequences: Sequence[IntArray]) -> list[Positions]:
    """About 15 % of the tokens, both neighbours of each visible."""
    return [np.arange(4, len(ids) - 4, 7) for ids in sequences]


def entropy(probabilities: FloatArray) -> float:
    return float(-(probabilities * np.log(probabilities)).sum())


def iid_sequences(
    probabilities: FloatArray, number: int, length: int, generator: np.random.Generator
) -> list[IntArray]:
    codes = generator.choice(len(probabilities), (number, length), p=probabilities)
    return [framed(row) for row in codes]


def markov_sequences(
    transitions: FloatArray, number: int, length: int, generator: np.random.Generator
) -> list[IntArray]:
    """Chains that start uniformly, which is stationary for doubly stochastic transitions."""
    states = np.empty((number, length), dtype=np.int64)
    states[:, 0] = generator.integers(len(transitions), size=number)
    cumulative = transitions.cumsum(axis=1)
    for step in range(1, length):
        draws = generator.random((number, 1))
        states[:, step] = (draws > cumulative[states[:, step - 1], :-1]).sum(axis=1)
    return [framed(row) for row in states]


def probabilities_at(fitted: Bars, ids: IntArray, position: int, name: str) -> FloatArray:
    """Each token's probability at one hidden position: the loss if it were the true one."""
    nats = []
    for token in range(fitted.low, fitted.high):
        changed = ids.copy()
        changed[position] = token
        nats.append(fitted.evaluate([changed], [np.array([position])])[name].nats[0])
    probabilities: FloatArray = np.exp(-np.array(nats))
    return probabilities


@pytest.fixture(scope="module")
def markov_bars() -> Bars:
    transitions = np.full((4, 4), 0.1) + 0.6 * np.roll(np.eye(4), 1, axis=1)
    training = markov_sequences(transitions, 300, 100, np.random.default_rng(0))
    return fit_bars(training, LOW, LOW + 4, seed=0)


# Values by hand


def test_unigram_is_the_add_one_smoothed_training_frequency() -> None:
    fitted = fit_bars([framed([0, 0, 1]), framed([])], LOW, LOW + 3, seed=0)

    np.testing.assert_allclose(fitted.unigram, [3 / 6, 2 / 6, 1 / 6])
    result = fitted.evaluate([framed([0, 1, 2])], [np.array([1, 2, 3])])[UNIGRAM]
    np.testing.assert_allclose(result.nats, -np.log([3 / 6, 2 / 6, 1 / 6]))
    assert result.correct.tolist() == [True, False, False]


def test_composition_adds_the_visible_counts_to_the_weighted_unigram() -> None:
    fitted = Bars(LOW, np.array([0.5, 0.25, 0.25]), strength=4.0, context=None, absent={})

    # Visible are 2, 2, 2 and 1: (0 + 2, 1 + 1, 3 + 1) / (4 + 4).
    ids = framed([0, 2, 2, 1, 2, 2])
    result = fitted.evaluate([ids], [np.array([1, 6])])[COMPOSITION]

    np.testing.assert_allclose(result.nats, -np.log([2 / 8, 4 / 8]))
    assert result.correct.tolist() == [False, True]


def test_context_multiplies_the_weighted_ratios_of_the_visible_neighbours() -> None:
    table = np.zeros((8, 3, 2))
    table[3, 1, 0] = np.log(9.0)  # token 1 just before favours token 0
    table[7, 1, 1] = np.log(4.0)  # token 1 four places later favours token 1
    fitted = Bars(LOW, np.array([0.5, 0.5]), 1e12, Context(table, weight=0.5), absent={})

    result = fitted.evaluate([framed([1, 0, 0, 0, 0, 1])], [np.array([2])])[CONTEXT]

    # Odds 9^0.5 : 4^0.5 = 3 : 2, as the huge strength leaves the prior even.
    np.testing.assert_allclose(result.nats, [-np.log(3 / 5)])
    assert result.correct.tolist() == [True]


def test_association_is_the_smoothed_ratio_of_joint_to_independent_frequency() -> None:
    counts = count([framed([0, 1])], LOW, LOW + 2)
    assert isinstance(counts.pairs, np.ndarray)

    table = association(counts.pairs, smoothed_frequencies(counts.tokens))

    # Both tokens have frequency 1/2; one pair and 2 x 2 pseudo-counts in all. The pair seen has
    # 1 / (1/4) + 4 over 1 + 4, the three others 4 over 5; they average to one.
    before, after = 3, 4
    np.testing.assert_allclose(np.exp(table[before, :2]), [[0.8, 1.6], [0.8, 0.8]])
    np.testing.assert_allclose(np.exp(table[after, :2]), [[0.8, 0.8], [1.6, 0.8]])
    assert not table[[0, 1, 2, 5, 6, 7]].any()
    assert not table[:, 2].any()


def test_pairs_do_not_cross_sequences_or_special_tokens() -> None:
    separated = np.array([LOW, END, LOW + 1], dtype=np.int32)

    counts = count([framed([0, 0]), separated], LOW, LOW + 2)

    assert counts.tokens.tolist() == [3, 1]
    assert isinstance(counts.pairs, np.ndarray)
    assert counts.pairs[0].tolist() == [[1, 0], [0, 0]]
    assert counts.pairs[1].tolist() == [[0, 1], [0, 0]]
    assert not counts.pairs[2:].any()


def test_result_summarises_its_targets() -> None:
    result = bars_module.BarResult(np.log([2.0, 8.0]), np.array([True, False]))

    assert result.loss == pytest.approx(np.log(4.0))
    assert result.perplexity == pytest.approx(4.0)
    assert result.accuracy == 0.5


# Sources of known entropy


def test_unigram_meets_the_entropy_of_an_independent_source() -> None:
    generator = np.random.default_rng(1)
    source = generator.dirichlet(np.ones(20))
    fitted = fit_bars(iid_sequences(source, 500, 200, generator), LOW, LOW + 20, seed=0)
    validation = iid_sequences(source, 500, 200, generator)

    results = fitted.evaluate(validation, every_seventh(validation))

    nats = results[UNIGRAM].nats
    standard_error = nats.std() / np.sqrt(len(nats))
    assert abs(results[UNIGRAM].loss - entropy(source)) < 4 * standard_error
    for name in (COMPOSITION, CONTEXT):  # nothing to gain, and next to nothing lost
        assert results[name].loss == pytest.approx(results[UNIGRAM].loss, abs=2e-3)


@pytest.mark.parametrize("length", [100, 1000])
def test_composition_pays_no_more_than_estimating_frequencies_costs(length: int) -> None:
    """Frequencies of R tokens estimated from n cost (R - 1) / 2n nats over the true ones.

    The sequences have one of two compositions; the oracle knows which, the unigram mixes them.
    """
    generator = np.random.default_rng(2)
    sources = generator.dirichlet(np.full(20, 0.7), size=2)
    training = [ids for p in sources for ids in iid_sequences(p, 100, length, generator)]
    fitted = fit_bars(training, LOW, LOW + 20, seed=0)

    excess, gap = [], []
    for source in sources:
        sequences = iid_sequences(source, 200, length, generator)
        hidden = every_seventh(sequences)
        results = fitted.evaluate(sequences, hidden)
        true_ids = np.concatenate([a[b] for a, b in zip(sequences, hidden, strict=True)])
        oracle = -np.log(source[true_ids - LOW])
        excess.append((results[COMPOSITION].nats - oracle).mean())
        gap.append((results[UNIGRAM].nats - oracle).mean())

    estimation_cost = (20 - 1) / (2 * length * 6 / 7)
    assert 0 < np.mean(excess) < 1.1 * estimation_cost
    assert np.mean(excess) < 0.5 * np.mean(gap)


def test_context_lies_between_the_unigram_and_the_exact_posterior_of_a_markov_chain(
    markov_bars: Bars,
) -> None:
    transitions = np.full((4, 4), 0.1) + 0.6 * np.roll(np.eye(4), 1, axis=1)
    validation = markov_sequences(transitions, 200, 100, np.random.default_rng(3))
    hidden = every_seventh(validation)

    results = markov_bars.evaluate(validation, hidden)

    exact = []
    for ids, positions in zip(validation, hidden, strict=True):
        codes = ids - LOW
        # Between visible neighbours l and r: p(a) is proportional to T[l, a] T[a, r].
        joint = transitions[codes[positions - 1]] * transitions[:, codes[positions + 1]].T
        chosen = joint[np.arange(len(positions)), codes[positions]]
        exact.append(-np.log(chosen / joint.sum(axis=1)))
    posterior = np.concatenate(exact).mean()
    assert results[UNIGRAM].loss == pytest.approx(np.log(4.0), abs=0.01)
    assert results[COMPOSITION].loss == pytest.approx(np.log(4.0), abs=0.01)
    # Not the posterior itself: tokens 2 to 4 places away repeat what the nearest ones say.
    assert posterior < results[CONTEXT].loss < (posterior + np.log(4.0)) / 2
    assert results[CONTEXT].accuracy > 2 * results[UNIGRAM].accuracy


def test_a_neighbour_seen_in_one_sequence_only_does_not_earn_weight() -> None:
    """Fitted under their own counts, the pairs of independent tokens would look telling."""
    source = np.full(100, 0.01)
    training = iid_sequences(source, 50, 100, np.random.default_rng(4))

    fitted = fit_bars(training, LOW, LOW + 100, seed=0)

    assert fitted.context is not None
    assert fitted.context.weight <= 0.05


# Laws


@st.composite
def hidden_sequences(draw: st.DrawFn) -> tuple[IntArray, Positions]:
    """A sequence with ids in and outside the range [5, 9), and targets in it."""
    ids = draw(st.lists(st.integers(0, 12), min_size=1, max_size=30))
    ids[draw(st.integers(0, len(ids) - 1))] = LOW
    candidates = [index for index, token in enumerate(ids) if LOW <= token < LOW + 4]
    hidden = draw(st.lists(st.sampled_from(candidates), min_size=1, unique=True))
    return np.array(ids, dtype=np.int32), np.array(hidden, dtype=np.int64)


@given(hidden_sequences())
@settings(max_examples=50, deadline=None)
def test_probabilities_sum_to_one_over_the_range(
    markov_bars: Bars, example: tuple[IntArray, Positions]
) -> None:
    """All mass is in the range, and what a hidden token is changes nothing but the look-up."""
    ids, hidden = example
    for name in (UNIGRAM, COMPOSITION, CONTEXT):
        assert probabilities_at(markov_bars, ids, hidden[0], name).sum() == pytest.approx(1.0)


@given(hidden_sequences(), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_hidden_tokens_do_not_leak(
    markov_bars: Bars, example: tuple[IntArray, Positions], seed: int
) -> None:
    ids, hidden = example
    changed = ids.copy()
    changed[hidden[1:]] = np.random.default_rng(seed).integers(LOW, LOW + 4, len(hidden) - 1)

    before = markov_bars.evaluate([ids], [hidden])
    after = markov_bars.evaluate([changed], [hidden])

    for name in before:
        assert before[name].nats[0] == after[name].nats[0]


@given(hidden_sequences())
@settings(max_examples=50, deadline=None)
def test_ids_outside_the_range_count_as_nothing(
    markov_bars: Bars, example: tuple[IntArray, Positions]
) -> None:
    """Other ids in their place, or more of them at the ends, give the same losses."""
    ids, hidden = example
    outside = (ids < LOW) | (ids >= LOW + 4)
    others = np.concatenate([[0, 12], np.where(outside, 1, ids), [9]]).astype(np.int32)

    before = markov_bars.evaluate([ids], [hidden])
    after = markov_bars.evaluate([others], [hidden + 2])

    for name in before:
        np.testing.assert_array_equal(before[name].nats, after[name].nats)


def test_with_nothing_visible_every_bar_is_the_unigram(markov_bars: Bars) -> None:
    ids = framed([0, 1, 2, 3, 3])

    results = markov_bars.evaluate([ids], [np.arange(1, 6)])

    for name in (COMPOSITION, CONTEXT):
        np.testing.assert_allclose(results[name].nats, results[UNIGRAM].nats)


def test_without_a_visible_neighbour_context_is_the_composition(markov_bars: Bars) -> None:
    ids = framed([0, 1, 1, 1, 2, 3, 1, 2, 0, 0])

    results = markov_bars.evaluate([ids], [np.arange(1, 10)])

    # The only visible token is 5 places after the fifth.
    assert results[CONTEXT].nats[4] == pytest.approx(results[COMPOSITION].nats[4])
    assert results[CONTEXT].nats[5] != pytest.approx(results[COMPOSITION].nats[5])


@pytest.mark.parametrize("elements", [1, 200, 1 << 21])
def test_sequences_scored_together_score_as_they_do_alone(
    markov_bars: Bars, monkeypatch: pytest.MonkeyPatch, elements: int
) -> None:
    monkeypatch.setattr(counting, "_CHUNK_ELEMENTS", elements)
    sequences = [framed([0, 1, 2]), framed([3]), framed([]), framed([1, 2, 2, 0, 1]), framed([2])]
    hidden = [np.array(p, dtype=np.int64) for p in ([3, 1], [1], [], [2, 4, 5], [])]

    together = markov_bars.evaluate(sequences, hidden)

    for name in (UNIGRAM, COMPOSITION, CONTEXT):
        alone = [
            markov_bars.evaluate([ids], [positions])[name].nats
            for ids, positions in zip(sequences, hidden, strict=True)
            if len(positions)
        ]
        np.testing.assert_array_equal(together[name].nats, np.concatenate(alone))


# Fitting


def test_fitting_reads_a_stream_once_in_blocks_of_any_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = iid_sequences(np.full(6, 1 / 6), 40, 30, np.random.default_rng(5))
    whole = fit_bars(training, LOW, LOW + 6, seed=0)
    monkeypatch.setattr(bars_module, "_BLOCK_TOKENS", 50)

    streamed = fit_bars(iter(training), LOW, LOW + 6, seed=0)

    np.testing.assert_array_equal(streamed.unigram, whole.unigram)
    assert streamed.strength == whole.strength
    assert streamed.context is not None
    assert whole.context is not None
    assert streamed.context.weight == whole.context.weight
    np.testing.assert_array_equal(streamed.context.association, whole.context.association)


def test_a_full_sample_still_counts_every_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars_module, "_MAX_TUNING_SEQUENCES", 5)

    fitted = fit_bars([framed([0])] * 60 + [framed([1])] * 38, LOW, LOW + 2, seed=0)

    np.testing.assert_allclose(fitted.unigram, [0.61, 0.39])


def test_one_training_sequence_is_enough() -> None:
    fitted = fit_bars([framed([0, 1, 1])], LOW, LOW + 3, seed=0)

    np.testing.assert_allclose(fitted.unigram, [2 / 6, 3 / 6, 1 / 6])
    assert fitted.context is not None
    assert fitted.context.weight == 0.0


def test_ranges_too_large_for_pair_tables_have_the_adjacent_bar_instead() -> None:
    training = [np.arange(0, 600, 3, dtype=np.int32)] * 3

    largest = fit_bars(training, 0, 512, seed=0)
    too_large = fit_bars(training, 0, 513, seed=0)

    assert largest.context is not None
    assert largest.absent == {}
    assert too_large.context is not None
    assert (largest.context.name, too_large.context.name) == (CONTEXT, ADJACENT)
    assert "513 tokens" in too_large.absent[CONTEXT]
    results = too_large.evaluate([training[0]], [np.array([4, 9])])
    assert list(results) == [UNIGRAM, COMPOSITION, ADJACENT]


# Errors


@pytest.mark.parametrize(
    ("low", "high"), [(5, 5), (6, 5), (-1, 5)], ids=["empty", "reversed", "negative"]
)
def test_a_range_without_tokens_is_refused(low: int, high: int) -> None:
    with pytest.raises(ConfigError, match=rf"\[{low}, {high}\)"):
        fit_bars([framed([0])], low, high, seed=0)


@pytest.mark.parametrize("training", [[], [framed([])]], ids=["no sequences", "only specials"])
def test_training_without_a_token_of_the_range_is_refused(training: list[IntArray]) -> None:
    with pytest.raises(DataError, match="no training sequence holds a token"):
        fit_bars(training, LOW, LOW + 4, seed=0)


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        ([[]], "no position is hidden"),
        ([[1], [1]], "1 sequences but 2 sets"),
        ([[1, 4]], r"hidden position 4 of sequence 0 .* not in \[0, 4\)"),
        ([[-1]], r"hidden position -1 of sequence 0"),
        ([[1, 3]], "position 3 of sequence 0 .* has id 3, not in the range"),
    ],
    ids=["no targets", "lengths differ", "after the end", "negative", "special token"],
)
def test_impossible_targets_are_refused(
    markov_bars: Bars, hidden: list[list[int]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        markov_bars.evaluate([framed([0, 1])], [np.array(p, dtype=np.int64) for p in hidden])
