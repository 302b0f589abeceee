"""What all pictures share: colours, fonts and the way to a PNG."""

from __future__ import annotations

import io

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

BLUE, RED, GREEN, GREY = "#4c72b0", "#c44e52", "#55a868", "#555555"

HEAT = LinearSegmentedColormap.from_list("heat", ["#fbfbfb", "#fbd9bf", "#e0735a", "#6e0f26"])

DOTS_PER_INCH = 140

EAST_ASIAN_FONTS = ("Noto Sans Mono CJK SC", "Noto Sans CJK SC", "WenQuanYi Micro Hei", "SimHei")


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches."""
    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def plain(axes: Axes) -> Axes:
    """Take away what says nothing, and add a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return axes


def monospaced_fonts() -> list[str]:
    """Return fonts of equal width; East Asian ones behind them where they are installed."""
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans Mono", *(name for name in EAST_ASIAN_FONTS if name in installed)]


def to_png(figure: Figure) -> bytes:
    """Return the picture as the content of a PNG file."""
    buffer = io.BytesIO()
    # Without a date and a version, the same picture is the same file.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
