"""Drawing tokens from what a model predicts."""

# M predictions, A tokens that may be drawn

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqmlm.errors import ConfigError
from seqmlm.vocabulary import AllowedTokens

if TYPE_CHECKING:
    from seqmlm.model.model import Model

_SCORES_PER_CHUNK = 1 << 24  # 128 MiB of log-probabilities in float64


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is drawn from a distribution.

    Args:
        temperature: divides the log-probabilities; 0 takes the most probable token, of several
            the one with the lowest id.
        top_k: only so many of the most probable tokens are drawn; all where absent.
        top_p: only the fewest of the most probable tokens that together have at least this
            probability are drawn, after temperature and ``top_k`` (nucleus sampling, arXiv
            1904.09751); in (0, 1].

    Raises:
        ConfigError: a value is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature = {self.temperature}: must be 0 or more, and finite.")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k = {self.top_k}: must be at least 1.")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p = {self.top_p}: must be above 0 and at most 1.")

    def choose(self, log_probabilities: Tensor, uniforms: Tensor) -> Tensor:
        """Return which token is drawn for each prediction, int64 ``[M]``.

        Args:
            log_probabilities: float64 ``[M, A]``, nats.
            uniforms: float64 ``[M]``, each in [0, 1), the chance that decides.
        """
        if self.temperature == 0:
            return log_probabilities.argmax(dim=-1)
        scores, order = log_probabilities.sort(dim=-1, descending=True, stable=True)
        scores = scores[:, : self.top_k] / self.temperature
        probabilities = scores.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities
        cumulative = probabilities.masked_fill(before >= self.top_p, 0.0).cumsum(dim=-1)
        thresholds = (uniforms * cumulative[:, -1])[:, None]
        chosen = torch.searchsorted(cumulative, thresholds, right=True)
        return order.gather(1, chosen.clamp(max=scores.shape[1] - 1)).squeeze(1)


class TokenSampler:
    """Draws tokens at hidden states of a model.

    Args:
        model: gives the distributions.
        ids: the tokens that may be drawn, increasing.
        sampling: how.
    """

    def __init__(self, model: Model, ids: Sequence[int], sampling: Sampling) -> None:
        words = AllowedTokens.of(ids, len(model.vocabulary)).words
        self.allowed = torch.from_numpy(words)[None].to(model.device)
        self._ids = torch.tensor(ids, device=model.device)
        self._model = model
        self._sampling = sampling

    def draw(
        self, hidden: Tensor, rows: Tensor, uniforms: Sequence[float]
    ) -> tuple[list[int], list[float]]:
        """Draw a token for each of some hidden states.

        Args:
            hidden: float ``[tokens, hidden_size]``.
            rows: int64 ``[M]``, which of them.
            uniforms: ``[M]``, each in [0, 1), the chance that decides.

        Returns:
            The ids, and for each its log-probability among the tokens that may be drawn, nats,
            at temperature 1 whatever the temperature of drawing.
        """
        ids: list[int] = []
        log_probabilities: list[float] = []
        size = max(1, _SCORES_PER_CHUNK // len(self._ids))
        chances = torch.tensor(uniforms, dtype=torch.float64, device=hidden.device)
        for start in range(0, len(rows), size):
            some = slice(start, start + size)
            every = self._ids.expand(len(rows[some]), -1)
            values = self._log_probabilities(hidden, rows[some], every)
            chosen = self._sampling.choose(values, chances[some])
            ids += self._ids[chosen].tolist()
            log_probabilities += values.gather(1, chosen[:, None]).squeeze(1).tolist()
        return ids, log_probabilities

    def score(self, hidden: Tensor, rows: Tensor, ids: Sequence[int]) -> list[float]:
        """Return log p of one given id at each of ``hidden[rows]``, as :meth:`draw` does."""
        labels = torch.tensor(ids, dtype=torch.int64, device=hidden.device)
        return self._log_probabilities(hidden, rows, labels).tolist()

    def confidence(self, hidden: Tensor, rows: Tensor) -> list[float]:
        """Return log p of the most probable token at each of ``hidden[rows]``, nats."""
        best, _ = self._model.token_head.top_k(
            hidden, rows, 1, allowed=self.allowed, backend=self._model.encoder.backend
        )
        return best[:, 0].tolist()

    def _log_probabilities(self, hidden: Tensor, rows: Tensor, ids: Tensor) -> Tensor:
        return self._model.token_head.log_probabilities(
            hidden, rows, ids, allowed=self.allowed, backend=self._model.encoder.backend
        ).double()
