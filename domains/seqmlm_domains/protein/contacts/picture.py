"""Contact maps as a picture, one panel a protein."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seqmlm.analysis.pictures.style import HEAT, new_figure
from seqmlm_domains.protein.contacts.prediction import ContactMap

LEAST_SEPARATION_DRAWN = 6
"""Pairs closer in the sequence are left white: they touch whatever the fold."""

_PANEL_WIDTH_INCHES, _PANEL_HEIGHT_INCHES = 4.4, 3.7
_MOST_NAME = 32


def draw_contacts(maps: Sequence[ContactMap]) -> Figure:
    """Draw one or more maps; the colours of scores that only rank end at their 99.5 percentile."""
    across = min(3, len(maps))
    down = math.ceil(len(maps) / across)
    figure = new_figure(across * _PANEL_WIDTH_INCHES, down * _PANEL_HEIGHT_INCHES)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, found in zip(panels, maps, strict=False):
        _draw(figure, axes, found)
    for axes in panels[len(maps) :]:
        axes.set_axis_off()
    figure.suptitle(f"contacts by {maps[0].measure}", fontsize=9)
    return figure


def _draw(figure: Figure, axes: Axes, found: ContactMap) -> None:
    length = len(found.sequence)
    place = np.arange(length)
    is_near = np.abs(place[:, None] - place) < LEAST_SEPARATION_DRAWN
    scores = np.ma.masked_array(found.scores, mask=is_near)
    shown = scores.compressed()
    if found.measure == "probability" or not len(shown):
        low, high = 0.0, 1.0
    else:
        low, high = (float(x) for x in np.percentile(shown, [50, 99.5]))
    start, end = 0.5, length + 0.5
    image = axes.imshow(
        scores, cmap=HEAT, vmin=low, vmax=high, extent=(start, end, end, start),
        interpolation="nearest",
    )  # fmt: skip
    colours = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("residue", fontsize=8)
    axes.set_ylabel("residue", fontsize=8)
    for labelled in (axes, colours.ax):
        labelled.tick_params(labelsize=7)
    name = found.name if len(found.name) <= _MOST_NAME else f"{found.name[: _MOST_NAME - 1]}…"
    axes.set_title(f"{name}, {length:,} residues", fontsize=8, parse_math=False)
