"""The options of the encoder. Their combinations include ESM-2, BERT, RoBERTa and ModernBERT."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from seqmlm.errors import ConfigError, suggestion

CHOICES = {
    "activation": ("gelu", "geglu"),
    "normalisation": ("layer", "rms"),
    "normalisation_placement": ("pre", "post"),
    "positions": ("rotary", "learned"),
}

MINIMA = {
    0: (
        "mask_token",
        "key_value_heads",
        "feed_forward_size",
        "max_positions",
        "position_offset",
        "segments",
        "roles",
        "window",
    ),
    1: ("vocabulary_size", "layers", "hidden_size", "heads", "global_every"),
}


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape and options of an encoder.

    Args:
        vocabulary_size: rows of the token table.
        mask_token: id of the mask token.
        layers: number of Transformer layers.
        hidden_size: width of the hidden states.
        heads: attention heads; must divide ``hidden_size``.
        key_value_heads: heads of keys and values (GQA, arXiv 2305.13245); 0 means ``heads``.
        feed_forward_size: inner width; 0 means 4 x ``hidden_size`` for gelu, and 8/3 of it,
            rounded up to a multiple of 8, for geglu, which has the same number of weights.
        activation: ``gelu`` or ``geglu``.
        normalisation: ``layer`` or ``rms``.
        normalisation_epsilon: added to the variance.
        normalisation_placement: before each block (``pre``) or after each residual (``post``).
        embedding_normalisation: whether the embeddings are normalised first.
        first_attention_normalisation: with ``pre``, whether the attention of the first layer gets
            normalised states too; ModernBERT leaves it out after that of the embeddings.
        biases: whether linear layers and layer norms have them.
        positions: ``rotary`` (arXiv 2104.09864) or ``learned``.
        rotary_base: of the rotary frequencies.
        local_rotary_base: the same in layers with a window (ModernBERT); 0 means ``rotary_base``.
        rotary_frequencies: radians per position of each pair of values, in place of those that
            follow from ``rotary_base``: ESM-2 learned with frequencies rounded to half precision.
        max_positions: rows of the table of learned positions.
        position_offset: row of that table for the first token (RoBERTa: 2); the longest sequence
            has ``max_positions - position_offset`` tokens.
        segments: rows of the table of segment embeddings; 0 for none. With 1, all tokens share it.
        roles: rows of the table of role embeddings, which say who speaks in a dialogue; 0 for
            none.
        window: local layers attend to positions at most so far away; 0 for none.
        global_every: with a window, every so many layers, from the first, attends globally.
        dropout: after the embeddings and on every residual branch, in [0, 1).
        token_dropout: whether mask tokens are zeroed and the rest rescaled, as in ESM-2.
        head_dense_bias: whether the dense layer of the token head, if any, has a bias.
        mask_token_rate: with token dropout, the share of mask tokens to expect; below 1 then.

    Raises:
        ConfigError: a value is out of range or does not fit another; names ``model.<key>``.
    """

    vocabulary_size: int
    mask_token: int
    layers: int = 4
    hidden_size: int = 128
    heads: int = 4
    key_value_heads: int = 0
    feed_forward_size: int = 0
    activation: Literal["gelu", "geglu"] = "geglu"
    normalisation: Literal["layer", "rms"] = "rms"
    normalisation_epsilon: float = 1e-5
    normalisation_placement: Literal["pre", "post"] = "pre"
    embedding_normalisation: bool = False
    first_attention_normalisation: bool = True
    biases: bool = False
    positions: Literal["rotary", "learned"] = "rotary"
    rotary_base: float = 10_000.0
    local_rotary_base: float = 0.0
    rotary_frequencies: tuple[float, ...] = ()
    max_positions: int = 0
    position_offset: int = 0
    segments: int = 0
    roles: int = 0
    window: int = 0
    global_every: int = 3
    dropout: float = 0.0
    token_dropout: bool = False
    head_dense_bias: bool = True
    mask_token_rate: float = 0.0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if (given := getattr(self, name)) not in choices:
                raise ConfigError(
                    f"model.{name} = {given!r}: it is {' or '.join(map(repr, choices))}."
                )
        object.__setattr__(self, "rotary_frequencies", tuple(self.rotary_frequencies))
        self._check_ranges()
        if not self.key_value_heads:
            object.__setattr__(self, "key_value_heads", self.heads)
        if not self.feed_forward_size:
            wide = self.hidden_size * 4
            gated = -(-self.hidden_size * 8 // 24) * 8
            object.__setattr__(
                self, "feed_forward_size", gated if self.activation == "geglu" else wide
            )
        self._check_fit()

    def _check_ranges(self) -> None:
        for lowest, names in MINIMA.items():
            for name in names:
                if not getattr(self, name) >= lowest:
                    raise ConfigError(
                        f"model.{name} = {getattr(self, name)}: must be at least {lowest}."
                    )
        for name in ("normalisation_epsilon", "rotary_base"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"model.{name} = {getattr(self, name)}: must be above 0.")
        if not 0 <= self.local_rotary_base < math.inf:
            raise ConfigError(
                f"model.local_rotary_base = {self.local_rotary_base}: must be at least 0."
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout = {self.dropout}: must be in [0, 1).")
        if not 0 <= self.mask_token_rate <= 1:
            raise ConfigError(f"model.mask_token_rate = {self.mask_token_rate}: must be in [0, 1].")
        if self.token_dropout and self.mask_token_rate == 1:
            raise ConfigError(
                "model.token_dropout = true, but the objectives turn every maskable token into "
                "the mask token: nothing would be left. Lower the rate, or switch it off."
            )

    def _check_fit(self) -> None:
        if self.hidden_size % self.heads:
            raise ConfigError(
                f"model.heads = {self.heads} does not divide "
                f"model.hidden_size = {self.hidden_size}."
            )
        if self.heads % self.key_value_heads:
            raise ConfigError(
                f"model.key_value_heads = {self.key_value_heads} does not divide "
                f"model.heads = {self.heads}."
            )
        if self.positions == "rotary" and self.head_size % 2:
            raise ConfigError(
                f"model.hidden_size / model.heads = {self.head_size} is odd: rotary positions "
                "turn pairs of values. Choose other sizes or model.positions = 'learned'."
            )
        self._check_positions()

    def _check_positions(self) -> None:
        if self.positions == "learned" and self.max_positions < 1:
            raise ConfigError("model.max_positions must be set with model.positions = 'learned'.")
        if self.positions == "learned" and self.position_offset >= self.max_positions:
            raise ConfigError(
                f"model.position_offset = {self.position_offset} leaves no row of "
                f"model.max_positions = {self.max_positions}."
            )
        without_effect = {
            "rotary": ("max_positions", "position_offset"),
            "learned": ("local_rotary_base", "rotary_frequencies"),
        }
        for name in without_effect[self.positions]:
            if getattr(self, name):
                other = "learned" if self.positions == "rotary" else "rotary"
                raise ConfigError(
                    f"model.{name} = {getattr(self, name)} has no effect with "
                    f"model.positions = {self.positions!r}: leave it out, or choose {other!r}."
                )
        if self.rotary_frequencies and len(self.rotary_frequencies) != self.head_size // 2:
            raise ConfigError(
                f"model.rotary_frequencies has {len(self.rotary_frequencies)} numbers; heads of "
                f"size {self.head_size} turn {self.head_size // 2} pairs of values."
            )
        if self.rotary_frequencies and self.local_rotary_base:
            raise ConfigError(
                "model.rotary_frequencies and model.local_rotary_base cannot both be set: the "
                "frequencies hold for all layers."
            )

    @property
    def longest_sequence(self) -> int | None:
        """Tokens of the longest sequence that has positions; None if there is no limit."""
        return self.max_positions - self.position_offset if self.max_positions else None

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads

    def window_of_layer(self, layer: int) -> int | None:
        """Return the attention window of a layer, counted from 0; None attends globally."""
        return self.window if self.window and layer % self.global_every else None

    def to_json(self) -> dict[str, Any]:
        """Return the options as plain JSON values; :meth:`from_json` reverses it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EncoderConfig:
        """Rebuild from plain values.

        Raises:
            ConfigError: an unknown option, a wrong type, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in content:
            if name not in known:
                raise ConfigError(
                    f"model.{name}: unknown option.{suggestion(name, known)} "
                    f"Known: {', '.join(known)}."
                )
        try:
            return cls(**content)
        except TypeError as error:
            raise ConfigError(f"model: {error}.") from error
