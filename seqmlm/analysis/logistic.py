"""Multinomial logistic regression, the classifier of the probes."""

# M examples, F features, C classes

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST_GRADIENT = 1e-5
MOST_ITERATIONS = 200


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
    features: Tensor, classes: Tensor, num_classes: int, *, weights: Tensor | None = None
) -> LogisticRegression:
    """Minimise summed cross-entropy + |weight|^2 / 2, as scikit-learn does with C = 1.

    The minimum is unique and is found by L-BFGS from zero: no learning rate, no seed.

    Args:
        features: float ``[M, F]``, M at least 1.
        classes: int64 ``[M]``, in [0, ``num_classes``).
        num_classes: C.
        weights: float ``[M]``, of the examples; 1 where absent.
    """
    mean = features.mean(0)
    deviation = features.std(0, correction=0)
    # A constant feature says nothing; dividing by its deviation would.
    deviation = torch.where(deviation > 1e-8, deviation, torch.ones_like(deviation))
    scaled = (features - mean) / deviation
    weight = torch.zeros(num_classes, features.shape[1], dtype=scaled.dtype, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=scaled.dtype, requires_grad=True)
    example_weights = torch.ones_like(scaled[:, 0]) if weights is None else weights
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=MOST_ITERATIONS,
        tolerance_grad=LARGEST_GRADIENT,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        nats = F.cross_entropy(F.linear(scaled, weight, bias), classes, reduction="none")
        penalty = weight.square().sum() / 2
        value = ((nats * example_weights).sum() + penalty) / len(scaled)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return LogisticRegression(mean, deviation, weight.detach(), bias.detach())
