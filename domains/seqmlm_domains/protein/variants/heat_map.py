"""Scores of single substitutions as a picture: sites across, residues down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from seqmlm.analysis.pictures.style import DOTS_PER_INCH, GREY
from seqmlm_domains.protein.variants.scorer import VariantScore, VariantScores

RESIDUE_ORDER: Final = "GAVLIMCFYWHKRDENQSTP"
"""Small and aliphatic, sulphur, aromatic, charged, polar, proline: like residues side by side."""

SITES_PER_LINE: Final = 72
MOST_SITES: Final = 720
"""Sites in one picture; of a longer protein the first ones with a score are drawn."""

_CELL_INCHES = 0.165
_LEFT, _RIGHT, _TOP, _BOTTOM, _BETWEEN = 0.55, 0.25, 1.0, 0.0, 0.62
_NO_SCORE = "#dcdce2"
_COLOURS = "RdBu"


def draw_heat_map(scores: VariantScores, *, title: str) -> Figure:
    """Draw the single substitutions; the wild type is a dot, what has no score is grey.

    Of protein lines one below the other, each of :data:`SITES_PER_LINE` sites. Blue is more
    probable than the wild type, red less; the scale ends at the 2nd percentile.
    """
    grid = substitution_grid(scores.items, len(scores.wild_type))
    scored = np.flatnonzero(np.isfinite(grid).any(axis=0))
    first = int(scored[0]) if len(scored) else 0
    last = min(int(scored[-1]) + 1 if len(scored) else 1, first + MOST_SITES)
    lines = [
        (start, min(start + SITES_PER_LINE, last)) for start in range(first, last, SITES_PER_LINE)
    ]
    rows = len(RESIDUE_ORDER)
    width = _LEFT + SITES_PER_LINE * _CELL_INCHES + _RIGHT
    height = _TOP + len(lines) * (rows * _CELL_INCHES + _BETWEEN) + _BOTTOM
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    finite = grid[np.isfinite(grid)]
    furthest = max(float(-np.percentile(finite, 2)), 1e-3) if len(finite) else 1.0
    colours = colormaps[_COLOURS].with_extremes(bad=_NO_SCORE)
    scale = ScalarMappable(Normalize(-furthest, furthest), colours)
    for number, (start, end) in enumerate(lines):
        top = _TOP + number * (rows * _CELL_INCHES + _BETWEEN)
        axes = figure.add_axes(
            (
                _LEFT / width,
                1 - (top + rows * _CELL_INCHES) / height,
                (end - start) * _CELL_INCHES / width,
                rows * _CELL_INCHES / height,
            )
        )
        _draw_line(axes, grid, scores, start, end, scale)
    figure.text(
        _LEFT / width, 1 - 0.28 / height, title, fontsize=11, weight="bold", parse_math=False
    )
    bar = figure.colorbar(
        scale,
        cax=figure.add_axes((1 - 4.25 / width, 1 - 0.3 / height, 4.0 / width, 0.12 / height)),
        orientation="horizontal",
        extend="min",
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=2, pad=2)
    bar.set_label(
        "log-odds to the wild type, nats (dot: wild type; grey: no score)", fontsize=8, labelpad=1
    )
    return figure


def substitution_grid(items: Sequence[VariantScore], sites: int) -> npt.NDArray[np.float64]:
    """Return the scores of single substitutions, float64 ``[20, sites]``, NaN where there is none.

    Rows are in :data:`RESIDUE_ORDER`.
    """
    grid = np.full((len(RESIDUE_ORDER), sites), np.nan)
    for item in items:
        if item.score is not None and item.substitutions and len(item.substitutions) == 1:
            ((site, letter),) = item.substitutions
            grid[RESIDUE_ORDER.index(letter), site] = item.score
    return grid


def _draw_line(
    axes: Axes,
    grid: npt.NDArray[np.float64],
    scores: VariantScores,
    start: int,
    end: int,
    scale: ScalarMappable,
) -> None:
    axes.imshow(
        np.ma.masked_invalid(grid[:, start:end]),
        cmap=scale.cmap,
        vmin=scale.get_clim()[0],
        vmax=scale.get_clim()[1],
        aspect="auto",
        interpolation="nearest",
        extent=(start - 0.5, end - 0.5, len(RESIDUE_ORDER) - 0.5, -0.5),
    )
    letters = scores.wild_type[start:end]
    standard = [column for column, letter in enumerate(letters) if letter in RESIDUE_ORDER]
    axes.scatter(
        [start + column for column in standard],
        [RESIDUE_ORDER.index(letters[column]) for column in standard],
        s=9,
        color="black",
        linewidths=0,
    )
    axes.set_yticks(range(len(RESIDUE_ORDER)), RESIDUE_ORDER, fontsize=7, family="monospace")
    axes.set_xticks(range(start, end), letters, fontsize=7, family="monospace")
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    offset = scores.numbering.offset
    numbered = [site for site in range(start, end) if (site + offset) % 10 == 0]
    above = axes.secondary_xaxis("top")
    above.set_xticks(numbered, [str(site + offset) for site in numbered], fontsize=8, color=GREY)
    above.tick_params(length=3, pad=1, color=GREY)
    above.spines[:].set_visible(False)
