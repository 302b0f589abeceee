"""What the layers of an encoder read and return during one forward pass."""

# T tokens, E hidden size

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from seqmlm.model.encoder import Encoder
from seqmlm.model.layers import Attention, AttentionContext, EncoderLayer


@dataclass(frozen=True)
class LayerRecord:
    """Filled in by a forward pass; lists are in the order of the layers.

    Args:
        states: ``[T, E]`` each, what the first layer reads and then what every layer returns.
        attention_inputs: what each attention block was called with.
        attention_outputs: ``[T, E]`` each, what it returned.
    """

    states: list[Tensor] = field(default_factory=list)
    attention_inputs: list[tuple[Tensor, AttentionContext]] = field(default_factory=list)
    attention_outputs: list[Tensor] = field(default_factory=list)


@contextmanager
def recorded_layers(encoder: Encoder) -> Iterator[LayerRecord]:
    """Record the next forward pass of ``encoder``; the record of a second one is appended."""
    record = LayerRecord()

    def before_layer(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if module is encoder.layers[0]:
            record.states.append(arguments[0])

    def after_layer(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        record.states.append(output)

    def after_attention(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        record.attention_inputs.append((arguments[0], arguments[1]))
        record.attention_outputs.append(output)

    handles = []
    for layer in encoder_layers(encoder):
        handles.append(layer.register_forward_pre_hook(before_layer))
        handles.append(layer.register_forward_hook(after_layer))
        handles.append(layer.attention.register_forward_hook(after_attention))
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def encoder_layers(encoder: Encoder) -> list[EncoderLayer]:
    """Return the layers, from the first."""
    layers = list(encoder.layers)
    assert all(isinstance(layer, EncoderLayer) for layer in layers)
    return layers  # type: ignore[return-value]


def attention_blocks(encoder: Encoder) -> list[Attention]:
    """Return the attention block of every layer, from the first."""
    return [layer.attention for layer in encoder_layers(encoder)]
