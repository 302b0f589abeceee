"""Logistic regression against the conditions of its minimum."""

from __future__ import annotations

import torch

from seqmlm.analysis.logistic import fit_logistic


def test_the_gradient_vanishes_at_the_solution() -> None:
    """Sum of weight (p - y) x plus the weights themselves is 0; without penalty for the bias."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(80, 5, generator=generator, dtype=torch.float64) * 3 + 7
    classes = torch.randint(3, (80,), generator=generator)
    weights = torch.rand(80, generator=generator, dtype=torch.float64)
    fitted = fit_logistic(features, classes, 3, weights=weights)
    scaled = (features - features.mean(0)) / features.std(0, correction=0)
    probabilities = (scaled @ fitted.weight.T + fitted.bias).softmax(-1)
    excess = weights[:, None] * (probabilities - torch.nn.functional.one_hot(classes, 3))
    torch.testing.assert_close(excess.T @ scaled, -fitted.weight, rtol=0, atol=5e-3)
    torch.testing.assert_close(excess.sum(0), torch.zeros(3).double(), rtol=0, atol=5e-3)


def test_what_is_linearly_separable_is_separated_whatever_its_scale() -> None:
    features = torch.tensor([[0.0, 1e4], [1.0, 1e4], [10.0, 1e4], [11.0, 1e4]])
    fitted = fit_logistic(features, torch.tensor([0, 0, 1, 1]), 2)
    assert fitted.predict(features).tolist() == [0, 0, 1, 1]
    assert torch.isfinite(fitted.weight).all()


def test_weights_shift_an_undecided_prediction() -> None:
    features = torch.zeros(3, 1)
    classes = torch.tensor([0, 0, 1])
    assert fit_logistic(features, classes, 2).predict(features[:1]).tolist() == [0]
    heavier = torch.tensor([1.0, 1.0, 4.0])
    assert fit_logistic(features, classes, 2, weights=heavier).predict(features[:1]).tolist() == [1]
