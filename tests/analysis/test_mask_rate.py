"""The variance of gradients against what independent tokens must give."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from seqmlm.analysis.mask_rate import (
    Gradient,
    analyse_mask_rate,
    compare_gradients,
    variance_curve,
)
from seqmlm.analysis.run import AnalysedRun, Corpus
from seqmlm.errors import ConfigError, DataError

Runs = Callable[..., AnalysedRun]
Corpora = Callable[[list[str]], Corpus]

TARGETS = (1, 4, 16, 64)


def noise(shared: float) -> Callable[[], list[Gradient]]:
    """Means of m unit-variance tokens in 50 dimensions, over noise that all tokens share."""
    generator = torch.Generator().manual_seed(0)

    def draw() -> list[Gradient]:
        common = shared**0.5 * torch.randn(50, generator=generator)
        return [
            Gradient(1 + common + torch.randn(50, generator=generator) / m**0.5, 2.0, m)
            for m in TARGETS
        ]

    return draw


def test_independent_tokens_have_variance_one_over_their_number() -> None:
    curve = variance_curve(TARGETS, compare_gradients(noise(0.0), 200))
    for point, m in zip(curve.points, TARGETS, strict=True):
        assert point.variance.value == pytest.approx(50 / m, abs=4 * point.variance.standard_error)
        assert point.squared_norm.value == pytest.approx(
            50, abs=4 * point.squared_norm.standard_error
        )
        assert (point.targets, point.loss.value) == (m, 2.0)
    assert curve.slope.value == pytest.approx(-1, abs=4 * curve.slope.standard_error)
    assert curve.slope.standard_error < 0.03


def test_noise_that_tokens_share_stays_and_flattens_the_slope() -> None:
    """Variance 50 (1 / m + 0.1): the intercept is 5."""
    curve = variance_curve(TARGETS, compare_gradients(noise(0.1), 400))
    assert curve.shared == pytest.approx(5, rel=0.1)
    expected, _ = np.polyfit(np.log(TARGETS), np.log([1 / m + 0.1 for m in TARGETS]), 1)
    assert curve.slope.value == pytest.approx(expected, abs=0.05)
    assert expected > -0.7


def test_real_gradients_of_unrelated_tokens_have_slope_minus_one(
    analysed: Runs, corpus_of: Corpora
) -> None:
    """One maskable letter per record, each in its own context of dots and blanks."""
    generator = np.random.default_rng(0)
    around = ["".join(generator.choice([" ", "."], 8)) for _ in range(120)]
    letters = generator.choice(list("abcdefgh"), 120)
    corpus = corpus_of(
        [f"{text[:4]}{a}{text[4:]}" for text, a in zip(around, letters, strict=True)]
    )
    report = analyse_mask_rate(
        analysed(), corpus, rates=(0.125, 0.5, 1.0), sequences=16, gradients=60
    )
    assert [point.targets for point in report.fixed.points] == [2, 8, 16]
    assert report.fixed.slope.value == pytest.approx(-1, abs=0.1)


def test_the_loss_at_fixed_corruption_is_the_masked_loss(
    analysed: Runs, corpus_of: Corpora
) -> None:
    """One record, all of it hidden: loss and targets of the highest rate are known."""
    run, corpus = analysed(), corpus_of(["abcd"])
    report = analyse_mask_rate(run, corpus, rates=(0.5, 1.0), sequences=1, gradients=4)
    highest = report.fixed.points[-1]
    hidden = run.model.fill_mask("<mask><mask><mask><mask>", top_k=26)
    log_p = [
        np.log(next(item.probability for item in items if item.token == letter))
        for letter, items in zip("abcd", hidden, strict=True)
    ]
    assert highest.loss.value == pytest.approx(-np.mean(log_p), abs=1e-5)
    assert highest.targets == 4
    assert highest.variance.value == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": (0.15,)}, "two or more different ones"),
        ({"rates": (0.0, 0.5)}, r"in \(0, 1\]"),
        ({"rates": (0.5, 1.5)}, r"in \(0, 1\]"),
        ({"gradients": 7}, "even number of at least 4"),
        ({"sequences": 0}, "at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(
    analysed: Runs, corpus_of: Corpora, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        analyse_mask_rate(analysed(), corpus_of(["abcd"]), **options)  # type: ignore[arg-type]


def test_a_causal_run_and_records_without_a_target_are_refused(
    analysed: Runs, corpus_of: Corpora
) -> None:
    with pytest.raises(ConfigError, match="trained causally"):
        analyse_mask_rate(analysed(direction="left_to_right"), corpus_of(["abcd"]))
    with pytest.raises(DataError, match=r"had no token to mask at rate 0\.8"):
        analyse_mask_rate(analysed(), corpus_of(["..."]), gradients=4)
