"""Joint against independent prediction, on a distribution that can be enumerated."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from seqmlm.analysis.joint_gap import (
    analyse_joint_gap,
    conditional_log_probabilities,
    joint_scores,
)
from seqmlm.analysis.run import AnalysedRun, Corpus
from seqmlm.data.packing import pack
from seqmlm.errors import ConfigError, DataError
from seqmlm.objectives.rows import Row

Runs = Callable[..., AnalysedRun]
Corpora = Callable[[list[str]], Corpus]
FloatArray = npt.NDArray[np.float64]

LENGTH, STATES = 6, 3


@pytest.fixture(scope="module")
def chain() -> FloatArray:
    """p(x) of a first-order Markov chain of six variables with three states, ``[3] * 6``."""
    generator = np.random.default_rng(0)
    joint = generator.dirichlet(np.ones(STATES))
    for _ in range(LENGTH - 1):
        transition = generator.dirichlet(np.ones(STATES), size=STATES)
        joint = joint[..., None] * transition
    assert joint.shape == (STATES,) * LENGTH
    return joint


def conditionals(joint: FloatArray, positions: tuple[int, ...]) -> FloatArray:
    """log p(true token | all not hidden), for every sequence, subset and member, by sums."""
    size = len(positions)
    log_p = np.full((joint.size, 2**size, size), np.nan)
    for hidden in range(1, 2**size):
        members = [i for i in range(size) if hidden >> i & 1]
        unseen = tuple(positions[i] for i in members)
        total = joint.sum(axis=unseen, keepdims=True)
        for member in members:
            others = tuple(p for p in unseen if p != positions[member])
            kept = joint.sum(axis=others, keepdims=True) if others else joint
            log_p[:, hidden, member] = np.log(np.broadcast_to(kept / total, joint.shape)).ravel()
    return log_p


def total_correlation(joint: FloatArray, positions: tuple[int, ...]) -> float:
    """Sum of H(x_i | rest) less H(x_i, ... | rest), by enumeration of the entropies."""

    def entropy_given_rest(kept: tuple[int, ...]) -> float:
        rest = joint.sum(axis=positions, keepdims=True)
        others = tuple(p for p in positions if p not in kept)
        marginal = joint.sum(axis=others, keepdims=True) if others else joint
        return -float((marginal * np.log(marginal / rest)).sum())

    return sum(entropy_given_rest((p,)) for p in positions) - entropy_given_rest(positions)


@pytest.mark.parametrize("positions", [(1, 3), (0, 5), (0, 2, 4)], ids=str)
def test_tokens_that_are_not_adjacent_have_no_gap(
    chain: FloatArray, positions: tuple[int, ...]
) -> None:
    scores = joint_scores(conditionals(chain, positions))
    assert np.abs(scores.gap).max() < 1e-12


@pytest.mark.parametrize("positions", [(1, 2), (2, 3), (1, 2, 3), (0, 1, 3)], ids=str)
def test_the_expected_gap_is_the_total_correlation_given_the_rest(
    chain: FloatArray, positions: tuple[int, ...]
) -> None:
    scores = joint_scores(conditionals(chain, positions))
    expected = total_correlation(chain, positions)
    assert expected > 0.01
    assert float(scores.gap @ chain.ravel()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("positions", [(1, 2), (1, 2, 3)], ids=str)
def test_all_orders_of_a_true_distribution_agree(
    chain: FloatArray, positions: tuple[int, ...]
) -> None:
    scores = joint_scores(conditionals(chain, positions))
    assert scores.chains.shape == (chain.size, {2: 2, 3: 6}[len(positions)])
    assert scores.inconsistency.max() < 1e-12


def test_gap_and_inconsistency_by_hand() -> None:
    """Both masked: -1 and -2. Alone: -0.5 and -1.2. Orders: -1 - 1.2 and -2 - 0.5."""
    log_p = np.full((1, 4, 2), np.nan)
    log_p[0, 0b11] = (-1.0, -2.0)
    log_p[0, 0b01, 0], log_p[0, 0b10, 1] = -0.5, -1.2
    scores = joint_scores(log_p)
    assert scores.independent == pytest.approx([-3.0])
    assert scores.chains[0] == pytest.approx([-2.2, -2.5])
    assert scores.gap == pytest.approx([0.65])
    assert scores.inconsistency == pytest.approx([0.3])


def test_a_model_is_asked_for_each_conditional(analysed: Runs) -> None:
    run = analysed()
    model = run.model
    encodings = [
        model.domain.parse(text) for text in ("some words here", "abcdef", "the fox jumps")
    ]
    positions = np.array([2, 3, 4], np.int32)
    found = conditional_log_probabilities(
        run, [(encoding, positions) for encoding in encodings], tokens_per_batch=40
    )
    for index, encoding in enumerate(encodings):
        for hidden, member in itertools.product(range(8), range(3)):
            if not hidden >> member & 1:
                assert np.isnan(found[index, hidden, member])
                continue
            ids = encoding.ids.copy()
            ids[positions[[i for i in range(3) if hidden >> i & 1]]] = 4
            with torch.no_grad():
                states = model(pack([Row.of(encoding, ids)]))[int(positions[member])]
                logits = model.encoder.token_embedding.weight @ states + model.token_head.bias
            token = int(encoding.ids[positions[member]])
            if token >= 7:  # the dot and the blank cannot be predicted
                expected = float(logits[7:33].log_softmax(0)[token - 7])
                assert found[index, hidden, member] == pytest.approx(expected, abs=1e-5)


def test_tuples_are_maskable_and_as_far_apart_as_asked(analysed: Runs, corpus_of: Corpora) -> None:
    run = analysed()
    corpus = corpus_of(["abc def", "a. b", "the quick brown fox"])
    report = analyse_joint_gap(run, corpus, tuple_size=3, max_distance=2, tuples=20)
    assert [found.distance for found in report.distances] == [1, 2]
    assert all(found.tuples == 20 for found in report.distances)
    assert all(np.isfinite(found.gap.value) for found in report.distances)
    assert report == analyse_joint_gap(run, corpus, tuple_size=3, max_distance=2, tuples=20)


def test_what_does_not_fit_is_refused(analysed: Runs, corpus_of: Corpora) -> None:
    corpus = corpus_of(["ab", "cd"])
    with pytest.raises(ConfigError, match=r"trained causally \(left_to_right\)"):
        analyse_joint_gap(analysed(direction="left_to_right"), corpus)
    with pytest.raises(ConfigError, match="tuple size = 4: it is 2 or 3"):
        analyse_joint_gap(analysed(), corpus, tuple_size=4)
    with pytest.raises(ConfigError, match="tuples = 0"):
        analyse_joint_gap(analysed(), corpus, tuples=0)
    with pytest.raises(DataError, match="No record has 2 maskable tokens 2 apart"):
        analyse_joint_gap(analysed(), corpus, max_distance=2)
