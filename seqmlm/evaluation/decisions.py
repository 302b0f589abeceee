"""Objectives in their own form on held-out records: losses, and answers, beside their bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm.data.samples import SampleBuilder
from seqmlm.evaluation.masked import MaskedScores
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Objective
from seqmlm.readable import readable


@dataclass(frozen=True)
class ObjectiveScores:
    """What one objective reaches on held-out records.

    Args:
        terms: weights of the means in its loss, see :attr:`Objective.terms`.
        sums: float64 ``[terms, 2]``: summed nats, and the weight of their targets. Adding the
            sums of two parts gives those of the whole.
        scores: float32 ``[m]``, logits of yes; none for an objective without decisions.
        labels: bool ``[m]``, the truth.
        bars: of a causal loss: name of a predictor that only counts -> mean nats.
    """

    terms: Mapping[str, float]
    sums: Tensor
    scores: Tensor
    labels: Tensor
    bars: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_tokens(
        cls, objective: Objective, scores: MaskedScores, bars: Mapping[str, float]
    ) -> ObjectiveScores:
        """Put the loss of predicted tokens beside bars on the same tokens."""
        nats_and_targets = scores.table[:, [1, 0]].sum(dim=0, keepdim=True)
        no_labels = torch.empty(0, dtype=torch.bool)
        return cls({objective.name: 1.0}, nats_and_targets, torch.empty(0), no_labels, bars)

    @property
    def losses(self) -> dict[str, float]:
        """Mean of each term, nats; NaN without targets."""
        means = (self.sums[:, 0] / self.sums[:, 1]).tolist()
        return dict(zip(self.terms, means, strict=True))

    @property
    def loss(self) -> float:
        """The weighted sum of the means, nats."""
        return sum(weight * self.losses[term] for term, weight in self.terms.items())

    @property
    def accuracy(self) -> float:
        """Share of right answers, where yes is a score above 0."""
        return float(((self.scores > 0) == self.labels).double().mean())

    @property
    def majority(self) -> float:
        """The bar: accuracy of giving the more frequent answer always."""
        share = float(self.labels.double().mean())
        return max(share, 1 - share)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall of yes; 0 without a right yes."""
        answered = self.scores > 0
        right = int((answered & self.labels).sum())
        return 2 * right / max(int(answered.sum()) + int(self.labels.sum()), 1)

    @property
    def auc(self) -> float:
        """Chance that a true yes scores above a true no, ties counting half; NaN without both."""
        return area_under_curve(self.scores.numpy(), self.labels.numpy())

    def describe(self) -> str:
        """Return losses and answers as one line for people."""
        losses = ", ".join(f"{term} {loss:.3f} nats" for term, loss in self.losses.items())
        if self.bars:
            name, bar = min(self.bars.items(), key=lambda item: item[1])
            losses += f" (best bar: {name}, {bar:.3f})"
        if not len(self.labels):
            return losses
        return (
            f"{losses}; {len(self.labels):,} decisions: accuracy {self.accuracy:.3f} (always the "
            f"more frequent answer: {self.majority:.3f}), F1 {self.f1:.3f}, "
            f"AUC {readable(self.auc, 3)}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the same as plain JSON values; the AUC is null where one answer is never true."""
        content: dict[str, Any] = {"loss": self.loss, "losses": self.losses}
        if self.bars:
            content["bars"] = dict(self.bars)
        if len(self.labels):
            content |= {
                "decisions": len(self.labels),
                "accuracy": self.accuracy,
                "majority": self.majority,
                "f1": self.f1,
                "auc": None if np.isnan(self.auc) else self.auc,
            }
        return content


def area_under_curve(scores: npt.NDArray[Any], labels: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve, by the rank sum; ties count half.

    Args:
        scores: ``[m]``, higher for yes.
        labels: bool ``[m]``, the truth.
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = mean_ranks[inverse[labels]].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def evaluate_objective(
    model: Model,
    objective: Objective,
    builder: SampleBuilder,
    records: npt.NDArray[np.int64],
    *,
    tokens_per_batch: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> ObjectiveScores | None:
    """Score one objective on held-out records.

    Args:
        model: with the objective's module; its mode is left as it was.
        objective: one of the builder's, which makes the rows. Beside it the builder has the
            objective in whose rows it hides tokens, if any.
        builder: of held-out samples. It draws as in a first epoch of its seed, always the same, and
            what a run changes over its steps, such as a rate, is as at the last of them.
        records: int64, held out.
        tokens_per_batch: about so many tokens at once; the result does not depend on it.
        should_stop: asked after each batch; a stopped evaluation returns None.
    """
    sums = torch.zeros(len(objective.terms), 2, dtype=torch.float64)
    scores, labels = [torch.empty(0)], [torch.empty(0, dtype=torch.bool)]
    ends = np.cumsum(np.minimum(builder.store.lengths[records], builder.max_length))
    parts = np.split(records, np.flatnonzero(np.diff(ends // tokens_per_batch)) + 1)
    with model.inference():
        for part in parts:
            batch = objective.complete(model, builder.batch(0, part, progress=1.0).to(model.device))
            hidden = model(batch)
            loss = objective.loss(model, hidden, batch)
            found = torch.stack([loss.total.reshape(-1), loss.count.reshape(-1)], dim=1)
            sums += found.double().cpu()
            decisions = objective.decisions(model, hidden, batch)
            if decisions is not None:
                scores.append(decisions.scores.float().cpu())
                labels.append(decisions.labels.cpu())
            if should_stop():
                return None
    return ObjectiveScores(objective.terms, sums, torch.cat(scores), torch.cat(labels))
