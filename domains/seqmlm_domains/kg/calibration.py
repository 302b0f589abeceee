"""Scores of candidates to probabilities that can be believed, with parameters from validation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

NUM_BINS: Final = 15
"""Of the expected calibration error, equally wide (Guo et al., ICML 2017)."""

MOST_ITERATIONS: Final = 60


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """How far the probabilities of queries are from what came true; NaN without queries.

    Of what :mod:`~seqmlm_domains.kg.calibration_queries` asks: heads and tails of validation
    triples among all entities, what training and validation state left out. It so describes
    ``filtered=True`` without a list or type of candidates: fewer candidates share the same
    probability, and what is known takes its part of an unfiltered list.

    Args:
        queries: measured.
        expected_error: mean distance between the probability of the most probable candidate, the
            first of a list unless names of different length are scored alike, and how often it is
            right, over :data:`NUM_BINS` bins; in [0, 1].
        brier: mean over queries of the squared errors of all candidates; in [0, 2].
        nats: mean of -log p of the true answer.
    """

    queries: int
    expected_error: float
    brier: float
    nats: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """A closed-set softmax over candidates of ``tokens ** exponent * score / temperature``.

    The exponent says how much of a name's length the mean likelihood should get back: 0 leaves
    the mean, 1 makes it the sum, which is the joint likelihood.

    Args:
        exponent: any number.
        temperature: above 0; above 1 makes probabilities more even.
        error: on validation queries that did not take part in the fit; None if never measured.
    """

    exponent: float = 0.0
    temperature: float = 1.0
    error: CalibrationError | None = None

    def logits(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Return what the softmax takes, float32 like ``scores``.

        Args:
            scores: float32 ``[candidates, queries]``, nats; minus infinity is no candidate.
            lengths: int64 ``[candidates]``, tokens.
        """
        weight = lengths.clamp(min=1).double() ** self.exponent / self.temperature
        return scores * weight.to(scores.dtype)[:, None]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; :meth:`from_json` reverses it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Calibration:
        """Rebuild what :meth:`to_json` gave."""
        error = content["error"]
        return cls(
            content["exponent"],
            content["temperature"],
            None if error is None else CalibrationError(**error),
        )


@dataclass(frozen=True)
class ScoredQueries:
    """Candidates of some queries with known answers.

    Args:
        scores: float32 ``[candidates, queries]``, nats; minus infinity is no candidate.
        lengths: int64 ``[candidates]``, tokens.
        answers: int64 ``[queries]``, the true candidate.
    """

    scores: Tensor
    lengths: Tensor
    answers: Tensor

    def __len__(self) -> int:
        return len(self.answers)

    def part(self, offset: int) -> ScoredQueries:
        """Return every second query, from the first or the second on."""
        return ScoredQueries(self.scores[:, offset::2], self.lengths, self.answers[offset::2])

    @property
    def answerable(self) -> ScoredQueries:
        """Those whose answer is a candidate."""
        keep = torch.isfinite(self.scores.gather(0, self.answers[None])[0])
        return ScoredQueries(self.scores[:, keep], self.lengths, self.answers[keep])


def fit_calibration(queries: ScoredQueries) -> Calibration:
    """Find the exponent and temperature of the least -log p of the true answers.

    The error reported is of parameters found on one half of the queries and measured on the
    other; those returned are from all of them. Deterministic; without a query to learn from the
    probabilities are a plain softmax.
    """
    usable = queries.answerable
    if not len(usable):
        return Calibration()
    halves = usable.part(0), usable.part(1)
    error = None
    if len(halves[1]):
        exponent, temperature = _fit(halves[0])
        error = calibration_error(halves[1], Calibration(exponent, temperature))
    return Calibration(*_fit(usable), error)


def calibration_error(queries: ScoredQueries, calibration: Calibration) -> CalibrationError:
    """Measure probabilities against the true answers."""
    confidence: list[float] = []
    is_right: list[bool] = []
    brier: list[float] = []
    nats: list[float] = []
    for query in range(len(queries)):  # one at a time: a matrix of probabilities is large
        logits = calibration.logits(queries.scores[:, query : query + 1], queries.lengths)[:, 0]
        log_probabilities = logits.double().log_softmax(0)
        probabilities = log_probabilities.exp()
        answer = int(queries.answers[query])
        best = int(probabilities.argmax())
        confidence.append(float(probabilities[best]))
        is_right.append(best == answer)
        true = float(probabilities[answer])
        brier.append(float((probabilities**2).sum()) - 2 * true + 1)
        nats.append(-float(log_probabilities[answer]))
    if not nats:
        return CalibrationError(0, *[float("nan")] * 3)
    bins = np.minimum((np.array(confidence) * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = np.bincount(bins, np.array(confidence) - np.array(is_right), minlength=NUM_BINS)
    return CalibrationError(
        len(nats),
        float(np.abs(gaps).sum() / len(nats)),
        float(np.mean(brier)),
        float(np.mean(nats)),
    )


def _fit(queries: ScoredQueries) -> tuple[float, float]:
    """Exponent and temperature, by L-BFGS from a plain softmax."""
    is_candidate = torch.isfinite(queries.scores)
    scores = queries.scores.masked_fill(~is_candidate, 0.0)
    log_lengths = queries.lengths.clamp(min=1).double().log()
    # Names of one length leave the exponent open: it stays 0.
    is_open = bool((log_lengths != log_lengths[0]).any())
    exponent = torch.zeros((), dtype=torch.float64, requires_grad=is_open)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    parameters = [each for each in (exponent, log_temperature) if each.requires_grad]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=MOST_ITERATIONS, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        weight = (exponent * log_lengths - log_temperature).exp().to(scores.dtype)
        logits = (scores * weight[:, None]).masked_fill(~is_candidate, -torch.inf)
        true = logits.gather(0, queries.answers[None])[0]
        # A weak pull towards a plain softmax keeps the parameters of a perfect fit finite.
        pull = 1e-3 * (exponent.square() + log_temperature.square())
        value = (logits.logsumexp(0) - true).double().mean() + pull
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return float(exponent.detach()), float(log_temperature.detach().exp())
