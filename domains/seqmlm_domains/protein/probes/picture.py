"""Accuracies of probes as a picture, one panel a task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqmlm.analysis.pictures.style import BLUE, GREY, new_figure, plain
from seqmlm_domains.protein.probes.probe import ProbeResult

PANELS_PER_LINE = 2

_PANEL_WIDTH, _LABEL_WIDTH, _PANEL_HEIGHT = 3.4, 2.4, 2.3


def draw_probes(results: Sequence[ProbeResult]) -> Figure:
    """Draw accuracy with its 95 % interval, the embeddings above the baselines."""
    across = min(PANELS_PER_LINE, len(results))
    lines = -(-len(results) // across)
    figure = new_figure(across * (_PANEL_WIDTH + _LABEL_WIDTH), lines * _PANEL_HEIGHT)
    panels = figure.subplots(lines, across, squeeze=False).ravel()
    for axes, result in zip(panels, results, strict=False):
        _draw(plain(axes), result)
    for axes in panels[len(results) :]:
        axes.set_axis_off()
    return figure


def _draw(axes: Axes, result: ProbeResult) -> None:
    names = list(result.measures)
    places = np.arange(len(names))[::-1]
    for name, place in zip(names, places, strict=True):
        found = result.measures[name].accuracy
        colour = BLUE if place == places[0] else GREY
        below, above = found.value - found.low, found.high - found.value
        axes.errorbar(
            found.value, place, xerr=np.nan_to_num([[below], [above]]), fmt="o", color=colour,
            markersize=5, capsize=2.5, elinewidth=1,
        )  # fmt: skip
    axes.axvline(result.measures[names[0]].accuracy.value, color=BLUE, linewidth=0.8, alpha=0.4)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_title(f"{result.task}: {result.accuracy_name}", fontsize=9, loc="left")
    for text in (axes.title, *axes.get_yticklabels()):
        text.set_parse_math(False)
