"""Sequences with every token on a colour that tells how surprising it is."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from seqmlm.analysis.pictures.style import DOTS_PER_INCH, GREY, HEAT, monospaced_fonts
from seqmlm.analysis.surprisal import NATS_PER_BIT, SequenceSurprisal, SurprisalReport

CELLS_PER_LINE = 96
CELL_INCHES = 0.105
LINE_INCHES = 0.27
PADDING_CELLS = 0.4
GAP_CELLS = 0.5
MOST_TOKENS = 4000
"""Tokens in one picture; more could not be read."""

UNSCORED = "#e9e9ee"


@dataclass(frozen=True, slots=True)
class Box:
    """One token in the picture: where it begins, how wide it is, both in cells, and what it says.

    Args:
        line: from 0.
        cell: from 0.
        width: cells.
        text: of the token.
        nats: its surprisal, None where it has none.
    """

    line: int
    cell: float
    width: float
    text: str
    nats: float | None


def draw_surprisal(report: SurprisalReport) -> Figure:
    """Draw the sequences one below the other over one scale in nats and bits."""
    lines: list[tuple[int, str]] = []
    boxes: list[Box] = []
    line, room = 0, MOST_TOKENS
    for sequence in report.sequences:
        if not room:
            break
        lines.append((line, _heading(sequence, room)))
        placed = list(_place(sequence, first_line=line + 1, most=room))
        room -= len(placed)
        boxes += placed
        line = placed[-1].line + 2
    height = line * LINE_INCHES
    figure = Figure(figsize=(CELLS_PER_LINE * CELL_INCHES + 0.4, height + 1.1), dpi=DOTS_PER_INCH)
    width_share = CELLS_PER_LINE * CELL_INCHES / figure.get_figwidth()
    left = (1 - width_share) / 2
    axes = figure.add_axes((left, 0.95 / (height + 1.1), width_share, height / (height + 1.1)))
    axes.set(xlim=(0, CELLS_PER_LINE), ylim=(line, 0))
    axes.axis("off")
    highest = max((box.nats for box in boxes if box.nats is not None), default=1.0)
    highest = max(highest, 1e-3)
    scale = ScalarMappable(Normalize(0, highest), HEAT)
    patches = [Rectangle((box.cell, box.line + 0.06), box.width, 0.88) for box in boxes]
    colours = [UNSCORED if box.nats is None else HEAT(box.nats / highest) for box in boxes]
    axes.add_collection(
        PatchCollection(patches, facecolors=colours, edgecolors="white", linewidths=0.8)
    )
    fonts = monospaced_fonts()
    for box in boxes:
        is_dark = box.nats is not None and box.nats > 0.72 * highest
        colour = "white" if is_dark else GREY if box.nats is None else "black"
        axes.text(
            box.cell + box.width / 2,
            box.line + 0.52,
            box.text,
            color=colour,
            family=fonts,
            fontsize=8.5,
            ha="center",
            va="center",
            parse_math=False,
        )
    for place, heading in lines:
        axes.text(
            0, place + 0.55, heading, fontsize=9, weight="bold", va="center", parse_math=False
        )
    _draw_scale(figure, scale, report.predicted_from)
    return figure


def _draw_scale(figure: Figure, scale: ScalarMappable, predicted_from: str) -> None:
    height = figure.get_figheight()
    axes = figure.add_axes((0.25, 0.42 / height, 0.5, 0.13 / height))
    bar = figure.colorbar(scale, cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    axes.set_xlabel(f"surprisal given {predicted_from}: nats below, bits above", fontsize=8)
    axes.tick_params(labelsize=8, length=2, pad=2)
    bits = axes.secondary_xaxis("top", functions=(_bits, _nats))
    bits.tick_params(labelsize=8, length=2, pad=1)


def _bits(nats: Any) -> Any:
    return nats / NATS_PER_BIT


def _nats(bits: Any) -> Any:
    return bits * NATS_PER_BIT


def _heading(sequence: SequenceSurprisal, room: int) -> str:
    mean = sequence.mean_nats
    cut = f", first {room:,} tokens" if len(sequence.tokens) > room else ""
    name = sequence.name if len(sequence.name) <= 50 else f"{sequence.name[:49]}…"
    return (
        f"{name}{cut}: mean {mean:.2f} nats = {mean / NATS_PER_BIT:.2f} bits per token, "
        f"perplexity {math.exp(mean):.2f}"
    )


def _place(sequence: SequenceSurprisal, *, first_line: int, most: int) -> Iterator[Box]:
    """Set tokens like words in a paragraph, with a gap between words of several tokens."""
    line, cell = first_line, 0.0
    has_words = len(set(sequence.units)) < 0.9 * len(sequence.units)
    shown = zip(sequence.tokens[:most], sequence.units, sequence.nats, strict=False)
    for _, word in groupby(enumerate(shown), key=lambda item: item[1][1] if has_words else item[0]):
        boxes = [(text, _cells(text) + PADDING_CELLS, nats) for _, (text, _, nats) in word]
        gap = GAP_CELLS if has_words and cell else 0.0
        if cell and cell + gap + sum(width for _, width, _ in boxes) > CELLS_PER_LINE:
            line, cell, gap = line + 1, 0.0, 0.0
        cell += gap
        for text, width, nats in boxes:
            if cell and cell + width > CELLS_PER_LINE:
                line, cell = line + 1, 0.0
            yield Box(line, cell, width, text, nats)
            cell += width


def _cells(text: str) -> int:
    """Cells of a monospaced font; East Asian characters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
