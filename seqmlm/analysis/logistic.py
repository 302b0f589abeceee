"""Multinomial logistic regression, the classifier of the probes."""

# M examples, F features, C classes

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST_GRADIENT = 1e-5
MOST_ITERATIONS = 200
HISTORY = 20
"""Steps that L-BFGS remembers; each takes twice the memory of the weights."""


@dataclass(frozen=True)
class LogisticRegression:
    """A fitted linear classifier over standardised features.

    Args:
        mean: ``[F]``, of the training features.
        deviation: ``[F]``, positive.
        weight: ``[C, F]``.
        bias: ``[C]``.
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor

    def predict(self, features: Tensor) -> Tensor:
        """Return the most probable class of each row of ``[M, F]``, int64 ``[M]``."""
        scores = F.linear((features - self.mean) / self.deviation, self.weight, self.bias)
        return scores.argmax(-1)


def fit_logistic(
    features: Tensor,
    classes: Tensor,
    num_classes: int,
    *,
    weights: Tensor | None = None,
    penalty: float = 1.0,
    start: LogisticRegression | None = None,
) -> LogisticRegression:
    """Minimise summed cross-entropy + penalty |weight|^2 / 2; scikit-learn's C is 1 / penalty.

    The minimum is unique and is found by L-BFGS: no learning rate, no seed.

    Args:
        features: float ``[M, F]``, M at least 1.
        classes: int64 ``[M]``, in [0, ``num_classes``).
        num_classes: C.
        weights: float ``[M]``, of the examples; 1 where absent.
        penalty: above 0.
        start: the minimum for another penalty, from where fewer steps lead.
    """
    mean = features.mean(0)
    deviation = features.std(0, correction=0)
    # A constant feature says nothing; dividing by its deviation would.
    deviation = torch.where(deviation > 1e-8, deviation, torch.ones_like(deviation))
    scaled = (features - mean) / deviation
    weight = scaled.new_zeros(num_classes, features.shape[1])
    # What the classes' frequencies ask for: rare classes would be long in coming from zero.
    bias = (torch.bincount(classes, minlength=num_classes) + 1).to(scaled).log()
    if start is not None:
        weight, bias = start.weight.clone(), start.bias.clone()
    weight.requires_grad_()
    bias.requires_grad_()
    example_weights = torch.ones_like(scaled[:, 0]) if weights is None else weights
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=MOST_ITERATIONS,
        history_size=HISTORY,
        tolerance_grad=LARGEST_GRADIENT,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        nats = F.cross_entropy(F.linear(scaled, weight, bias), classes, reduction="none")
        size = weight.square().sum() / 2
        value = ((nats * example_weights).sum() + penalty * size) / len(scaled)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return LogisticRegression(mean, deviation, weight.detach(), bias.detach())
