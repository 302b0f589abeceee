"""Attention maps: all heads small, and the heads of one layer large."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from seqmlm.analysis.attention import AttentionMaps
from seqmlm.analysis.pictures.style import HEAT, monospaced_fonts, new_figure

MOST_LABELS = 64
"""Tokens of a sequence that are still written beside a large map."""


def draw_all_heads(maps: AttentionMaps) -> Figure:
    """Draw every layer (rows, the first on top) and head (columns)."""
    layers, heads = maps.weights.shape[:2]
    figure = new_figure(max(4.5, 1.55 * heads + 1.2), 1.75 * layers + 0.7)
    grid = figure.subplots(layers, heads, squeeze=False)
    norm = _norm(maps)
    entropy, distance = maps.entropy_nats, maps.mean_distance
    for layer in range(layers):
        for head in range(heads):
            axes = grid[layer, head]
            image = axes.imshow(maps.weights[layer, head].numpy(), cmap=HEAT, norm=norm)
            axes.set(xticks=[], yticks=[])
            _frame(axes)
            axes.set_title(
                f"{entropy[layer, head]:.2f} nats, {distance[layer, head]:.1f} away",
                fontsize=7,
                pad=3,
            )
            if layer == layers - 1:
                axes.set_xlabel(f"head {head + 1}", fontsize=8)
            if head == 0:
                axes.set_ylabel(f"layer {layer + 1}", fontsize=8)
    _draw_scale(figure, grid, image)
    figure.suptitle(
        "queries down, keys across\nabove each map: entropy and mean distance", fontsize=9
    )
    return figure


def draw_layer(maps: AttentionMaps, layer: int) -> Figure:
    """Draw the heads of one layer, counted from 0, with the tokens beside them."""
    heads, length = maps.weights.shape[1], len(maps.tokens)
    columns = min(heads, 2 if heads <= 4 else 3)
    rows = math.ceil(heads / columns)
    size = min(max(0.13 * length, 3.2), 8.0)
    figure = new_figure(columns * size + 1.0, rows * (size + 0.35) + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[heads:]:
        axes.axis("off")
    norm = _norm(maps)
    for head in range(heads):
        axes = grid.flat[head]
        image = axes.imshow(maps.weights[layer, head].numpy(), cmap=HEAT, norm=norm)
        axes.set_title(
            f"head {head + 1}: {maps.entropy_nats[layer, head]:.2f} nats, "
            f"{maps.mean_distance[layer, head]:.1f} tokens away",
            fontsize=9,
        )
        _frame(axes)
        _label(axes, maps.tokens, size)
    window = maps.windows[layer]
    reach = "all positions" if window is None else f"window of {window}"
    figure.suptitle(f"layer {layer + 1}, {reach}: queries down, keys across", fontsize=10)
    _draw_scale(figure, grid, image)
    return figure


def _label(axes: Axes, tokens: tuple[str, ...], size: float) -> None:
    if len(tokens) > MOST_LABELS:
        axes.tick_params(labelsize=7, length=2)
        return
    points = min(8.0, 0.8 * 72 * size / len(tokens))
    places = np.arange(len(tokens))
    fonts = monospaced_fonts()
    axes.set_xticks(places, tokens)
    for text in axes.get_xticklabels():
        text.set_rotation(90 if len(text.get_text()) > 1 else 0)
    axes.set_yticks(places, tokens)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set(fontsize=points, family=fonts, parse_math=False)
    axes.tick_params(length=0, pad=2)


def _frame(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set(color="#cccccc", linewidth=0.6)


def _norm(maps: AttentionMaps) -> PowerNorm:
    """Half the exponent, so that weak attention shows; the strongest per mille saturates.

    Uniform attention, 1 / N, is never darker than half of the scale.
    """
    highest = float(np.quantile(maps.weights.numpy(), 0.999))
    return PowerNorm(0.5, vmin=0.0, vmax=min(1.0, max(highest, 4 / len(maps.tokens))), clip=True)


def _draw_scale(figure: Figure, grid: Any, image: AxesImage) -> None:
    bar = figure.colorbar(image, ax=grid, shrink=0.6, aspect=32, pad=0.02)
    bar.set_label("attention weight", fontsize=8)
    _, highest = image.get_clim()
    assert highest is not None
    # Round numbers from the top, as far apart as can be read on the scale of the square root.
    step = 10.0 ** math.floor(math.log10(highest))
    rounds = [power * digit for power in (step / 100, step / 10, step) for digit in (1, 2, 5)]
    ticks = [0.0]
    heights = {tick: math.sqrt(tick / highest) for tick in rounds if tick <= highest}
    lowest = math.inf
    for tick in reversed(heights):
        if 0.1 <= heights[tick] <= lowest - 0.1:
            ticks.append(tick)
            lowest = heights[tick]
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks], fontsize=7)
