"""Hidden states to a few numbers: classes of a pair, labels of a token, a measured value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from seqmlm.errors import ConfigError
from seqmlm.model.configuration import EncoderConfig
from seqmlm_kernels.linear import Linear

Transform = Literal["none", "tanh", "gelu"]


@dataclass(frozen=True, kw_only=True)
class OutputHeadConfig:
    """Shape and options of an output head.

    Args:
        outputs: numbers per scored state, 1 or more.
        transform: of a dense layer that comes first: ``tanh`` is BERT's pooler, ``gelu``
            ELECTRA's discriminator; ``none`` leaves the layer out.
        dropout: before the last layer, in [0, 1).

    Raises:
        ConfigError: a value is out of range.
    """

    outputs: int
    transform: Transform = "none"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.outputs < 1:
            raise ConfigError(f"head.outputs = {self.outputs}: must be at least 1.")
        if self.transform not in get_args(Transform):
            allowed = ", ".join(get_args(Transform))
            raise ConfigError(f"head.transform = {self.transform!r}: it is one of {allowed}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"head.dropout = {self.dropout}: must be in [0, 1).")

    def to_json(self) -> dict[str, Any]:
        """Return the options as plain JSON values; :meth:`from_json` reverses it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> OutputHeadConfig:
        """Rebuild from plain values."""
        return cls(**content)


class OutputHead(nn.Module):
    """An optional dense layer, dropout, and a linear layer.

    Args:
        encoder: gives the width of the states.
        config: of the head.
    """

    def __init__(self, encoder: EncoderConfig, config: OutputHeadConfig) -> None:
        super().__init__()
        self.config = config
        width = encoder.hidden_size
        self.dense = None if config.transform == "none" else Linear(width, width)
        self.dropout = nn.Dropout(config.dropout)
        self.output = Linear(width, config.outputs)
        for layer in (self.dense, self.output):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Map chosen or pooled states ``[m, hidden_size]`` to ``[m, outputs]``; m may be 0."""
        if self.dense is not None:
            activation = F.gelu if self.config.transform == "gelu" else F.tanh
            states = activation(self.dense(states))
        return self.output(self.dropout(states))  # type: ignore[no-any-return]
