"""What an architecture must tell so that its weights can be read and written."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from seqmlm.interop.source import HuggingFaceConfig
from seqmlm.model.configuration import EncoderConfig
from seqmlm.vocabulary import Vocabulary

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Stacked:
    """A tensor of ours is one of theirs, or several, one below the other.

    Args:
        ours: name in a model of seqmlm.
        theirs: names of equally large tensors.
    """

    ours: str
    theirs: tuple[str, ...]

    def to_ours(self, tensors: Tensors) -> Tensor:
        """Join theirs."""
        parts = [tensors[name] for name in self.theirs]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def to_theirs(self, tensor: Tensor) -> dict[str, Tensor]:
        """Cut ours."""
        return dict(zip(self.theirs, tensor.chunk(len(self.theirs)), strict=True))


@dataclass(frozen=True)
class SwappedHalves:
    """A tensor of ours is one of theirs with its upper half below the lower one.

    Args:
        ours: name in a model of seqmlm.
        their: name there.
    """

    ours: str
    their: str

    @property
    def theirs(self) -> tuple[str, ...]:
        """The one name."""
        return (self.their,)

    def to_ours(self, tensors: Tensors) -> Tensor:
        """Swap."""
        return torch.cat(tensors[self.their].chunk(2)[::-1])

    def to_theirs(self, tensor: Tensor) -> dict[str, Tensor]:
        """Swap back."""
        return {self.their: torch.cat(tensor.chunk(2)[::-1])}


Correspondence = Stacked | SwappedHalves


class Architecture(ABC):
    """One architecture of Hugging Face: its settings and tensors beside those of the encoder."""

    model_type: ClassVar[str]
    """As in ``config.json``."""

    class_name: ClassVar[str]
    """Of the masked language model in transformers."""

    domain: ClassVar[str]
    """Registered name of the domain that its models belong to."""

    prefix: ClassVar[str]
    """Of the encoder's tensors."""

    required: ClassVar[Mapping[str, Any]]
    """Options of the encoder, and ``head_transform``, that the architecture fixes."""

    left_out: ClassVar[Sequence[str]]
    """Regular expressions of tensors that the encoder has no use for."""

    embedding: ClassVar[str]
    """Name of the token embedding."""

    decoder: ClassVar[str]
    """Name of the projection to the vocabulary, which is tied to the embedding."""

    bias: ClassVar[str]
    """Name of its bias."""

    pair_head: ClassVar[str | None] = None
    """Prefix of the regression over attention maps, where the architecture may have one."""

    @abstractmethod
    def options(self, config: HuggingFaceConfig, tensors: Tensors) -> dict[str, Any]:
        """Return the encoder's options that are not in :attr:`required`, but for the vocabulary.

        Raises:
            CheckpointError: a setting or tensor is missing.
            ConfigError: the encoder has no option for a setting.
        """

    @abstractmethod
    def not_carried_over(self, config: HuggingFaceConfig) -> list[str]:
        """Return what of the settings the encoder leaves out, such as dropout of attention."""

    @abstractmethod
    def correspondences(self, encoder: EncoderConfig) -> list[Correspondence]:
        """Return the tensors of ours and theirs."""

    def pair_head_correspondences(self) -> list[Correspondence]:
        """Return the tensors of the pair head, if the architecture may have one."""
        if self.pair_head is None:
            return []
        return [
            Stacked(f"pair_head.{part}", (f"{self.pair_head}.{part}",))
            for part in ("weight", "bias")
        ]

    def obstacles(self, encoder: EncoderConfig, vocabulary: Vocabulary) -> list[str]:
        """Say which further options a model must change to be of this architecture."""
        return []

    @abstractmethod
    def config_json(self, encoder: EncoderConfig, vocabulary: Vocabulary) -> dict[str, Any]:
        """Return the content of ``config.json``; the reverse of :meth:`options`."""

    def prepare_tensors(  # noqa: B027
        self, config: HuggingFaceConfig, tensors: dict[str, Tensor]
    ) -> None:
        """Take out or replace, in place, tensors that are not of :meth:`correspondences`.

        Raises:
            CheckpointError: they do not agree with one another.
        """

    def finish_tensors(  # noqa: B027
        self, encoder: EncoderConfig, tensors: dict[str, Tensor]
    ) -> None:
        """Add, in place, tensors that are not of :meth:`correspondences`."""

    def unmet(self, encoder: EncoderConfig, *, head_transform: bool) -> list[str]:
        """Say which options differ from :attr:`required`, as lines of a configuration."""
        given = encoder.to_json() | {"head_transform": head_transform}
        if encoder.key_value_heads == encoder.heads:
            given["key_value_heads"] = 0
        return [
            f"model.{name} = {_toml(value)} (is {_toml(given[name])})"
            for name, value in self.required.items()
            if given[name] != value
        ]

    def is_left_out(self, name: str) -> bool:
        """Whether the encoder has no use for a tensor."""
        return any(re.fullmatch(pattern, name) for pattern in self.left_out)


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
