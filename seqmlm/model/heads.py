"""Hidden states to scores, at the target rows only."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seqmlm_kernels
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.layers import normalisation
from seqmlm_kernels.linear import Linear, linear

SCORES_AT_ONCE = 2**24
"""Scores that sampling holds at once, which is 128 MiB of sums; no kernel avoids them."""


class TokenHead(nn.Module):
    """Scores every token of the vocabulary with the weights of the token embedding.

    Args:
        config: of the encoder.
        embedding_weight: returns ``[vocabulary_size, hidden_size]``, shared with the embedding;
            a function, so that the module tree holds the parameter once.
        transform: whether a dense layer, GELU and a norm come first, as in BERT and ESM-2.
    """

    def __init__(
        self,
        config: EncoderConfig,
        embedding_weight: Callable[[], Tensor],
        *,
        transform: bool,
    ) -> None:
        super().__init__()
        self._embedding_weight = embedding_weight
        self.bias = nn.Parameter(torch.zeros(config.vocabulary_size))
        width = config.hidden_size
        self.dense = Linear(width, width, bias=config.head_dense_bias) if transform else None
        self.norm = normalisation(config) if transform else None

    def features(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """Return ``[m, hidden_size]``: the rows of ``hidden`` after the transform, if any."""
        chosen = hidden.index_select(0, rows)
        if self.dense is None or self.norm is None:
            return chosen
        return self.norm(F.gelu(self.dense(chosen)))  # type: ignore[no-any-return]

    def loss(
        self,
        hidden: Tensor,
        rows: Tensor,
        labels: Tensor,
        *,
        allowed: Tensor | None = None,
        allowed_index: Tensor | None = None,
        backend: str = "auto",
    ) -> Tensor:
        """Return the cross-entropy of each target, float ``[m]``, nats.

        See :func:`seqmlm_kernels.masked_cross_entropy` for the arguments.
        """
        weight, rows, features = self._projection(hidden, rows)
        loss, _ = seqmlm_kernels.masked_cross_entropy(
            features,
            weight,
            self.bias,
            rows,
            labels,
            allowed=allowed,
            allowed_index=allowed_index,
            backend=backend,
        )
        return loss

    def log_probabilities(
        self, hidden: Tensor, rows: Tensor, token_ids: Tensor, *, allowed: Tensor, backend: str
    ) -> Tensor:
        """Return log p of given ids, nats, shaped like ``token_ids`` (``[m]`` or ``[m, k]``)."""
        weight, rows, features = self._projection(hidden, rows)
        return seqmlm_kernels.token_log_likelihood(
            features, weight, self.bias, rows, token_ids, allowed=allowed, backend=backend
        )

    def top_k(
        self,
        hidden: Tensor,
        rows: Tensor,
        k: int,
        *,
        allowed: Tensor | None,
        allowed_index: Tensor | None = None,
        backend: str,
    ) -> tuple[Tensor, Tensor]:
        """Return log p float ``[m, k]`` and ids int64 ``[m, k]`` of the most probable tokens."""
        weight, rows, features = self._projection(hidden, rows)
        return seqmlm_kernels.top_k(
            features,
            weight,
            self.bias,
            rows,
            k,
            allowed=allowed,
            allowed_index=allowed_index,
            backend=backend,
        )

    @torch.no_grad()
    def sample(
        self,
        hidden: Tensor,
        rows: Tensor,
        draws: Tensor,
        *,
        allowed: Tensor | None = None,
        allowed_index: Tensor | None = None,
        backend: str = "auto",
    ) -> Tensor:
        """Return a token for each row, int64 ``[m]``, drawn from the head's distribution.

        By inversion of the cumulative distribution: the draw alone decides, whatever else is in
        the batch. Sums run over integers, which give the same on any device in any order, so a
        token of less than 2^-32 is never drawn. Without gradient.

        Args:
            hidden: float ``[tokens, hidden_size]``.
            rows: int64 ``[m]`` into ``hidden``.
            draws: float64 ``[m]``, uniform in [0, 1).
            allowed: int32 bitsets as in :meth:`loss`; every token if absent.
            allowed_index: int ``[m]`` into ``allowed``.
            backend: of the kernels.
        """
        weight, rows, features = self._projection(hidden, rows)
        if allowed is None:
            allowed = torch.full((1, -(-len(weight) // 32)), -1, device=weight.device).int()
        sampled = [rows.new_empty(0)]
        at_once = max(1, SCORES_AT_ONCE // len(weight))
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            scores = linear(features.index_select(0, rows[part]), weight, self.bias).float()
            probabilities = seqmlm_kernels.masked_softmax(
                scores,
                allowed,
                allowed_index=None if allowed_index is None else allowed_index[part],
                backend=backend,
            )
            cumulative = (probabilities.double() * 2**32).long().cumsum(1)
            threshold = (draws[part] * cumulative[:, -1]).long()
            sampled.append(torch.searchsorted(cumulative, threshold[:, None], right=True)[:, 0])
        return torch.cat(sampled)

    def _projection(self, hidden: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weight, rows and states to project; without a transform the kernel gathers itself."""
        weight = self._embedding_weight()
        if self.dense is None:
            return weight, rows, hidden
        features = self.features(hidden, rows)
        return weight, torch.arange(len(rows), device=rows.device), features
