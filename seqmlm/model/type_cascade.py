"""Type first, then name: predicts the declared type of a unit and conditions states on one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.layers import normalisation


class TypeCascade(nn.Module):
    """The type stage of CugLM (arXiv 2012.14631) for one encoder.

    Scores of types are ``LN(GELU(W s)) E^T + b``, with the embedding E of the types as output
    layer. A type enters a state as ``s + V GELU(U [s; e])``. Deviation: the paper replaces the
    state; here it is added to, from zero at the start, so that the token head also reads states
    without a type.

    Args:
        encoder: gives the width of the states.
        num_types: 0 is no type, and never predicted.
    """

    def __init__(self, encoder: EncoderConfig, *, num_types: int) -> None:
        super().__init__()
        width = encoder.hidden_size
        self.type_embedding = nn.Embedding(num_types, width)
        self.type_bias = nn.Parameter(torch.zeros(num_types))
        self.dense = nn.Linear(width, width)
        self.norm = normalisation(encoder)
        self.join = nn.Linear(2 * width, width)
        self.added = nn.Linear(width, width)
        nn.init.normal_(self.type_embedding.weight, std=0.02)
        for layer in (self.dense, self.join):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.added.weight)
        nn.init.zeros_(self.added.bias)

    def scores(self, states: Tensor) -> Tensor:
        """Return the logits of the types, float32 ``[units, types]``; that of no type is -inf.

        Args:
            states: ``[units, hidden_size]``.
        """
        features = self.norm(F.gelu(self.dense(states)))
        scores = F.linear(features, self.type_embedding.weight, self.type_bias).float()
        return torch.cat([scores.new_full((len(scores), 1), -torch.inf), scores[:, 1:]], dim=1)

    def expected(self, scores: Tensor) -> Tensor:
        """Return the mean embedding ``[units, hidden_size]`` under the scores, as they are.

        The scores get no gradient: they learn from declared types alone.
        """
        probabilities = scores.detach().softmax(dim=-1).to(self.type_embedding.weight.dtype)
        return probabilities @ self.type_embedding.weight

    def forward(self, states: Tensor, types: Tensor) -> Tensor:
        """Return states that know a type.

        Args:
            states: ``[m, hidden_size]``.
            types: ``[m, hidden_size]``, an embedding for each.
        """
        joined = F.gelu(self.join(torch.cat([states, types.to(states.dtype)], dim=-1)))
        return states + self.added(joined)  # type: ignore[no-any-return]
