"""Pictures of a fine-tuned model: learning curve, confusion matrix, predicted over true values."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqmlm.finetuning.statistics import FloatArray, IndexArray, regression_measures
from seqmlm.readable import readable

logger = logging.getLogger("seqmlm")

LABELS_WITH_NUMBERS = 20
"""Largest confusion matrix whose cells carry their counts."""


LONGEST_LABEL = 18
"""Characters of a label in a confusion matrix; of longer ones the middle is left out."""

CORRELATIONS = ("pearson", "spearman")
"""Metrics in [-1, 1]; all others that an epoch is chosen by are in [0, 1]."""


def draw_confusion(table: IndexArray, labels: Sequence[str], path: Path) -> list[Path]:
    """Draw how true labels (rows) were taken for others; a row's colours add up to 1.

    Args:
        table: int64 ``[labels, labels]``, counts.
        labels: names.
        path: of the PNG.

    Returns:
        The file, or nothing without matplotlib, with one log line.
    """
    if not _can_draw():
        return []
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    count = len(labels)
    shown = _shortened(labels)
    cell_inches = 0.55 if count <= LABELS_WITH_NUMBERS else 0.17
    longest = max(map(len, shown))
    text_size = 8 if count <= LABELS_WITH_NUMBERS else 6
    margin = 0.6 + longest * text_size * 0.6 / 72
    side = max(count * cell_inches, 2.5)
    figure = Figure(figsize=(side + margin + 1.0, side + margin), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    totals = table.sum(axis=1, keepdims=True)
    shares = np.ma.masked_array(
        table / np.maximum(totals, 1), np.broadcast_to(totals == 0, table.shape)
    )
    # Labels without an example are grey: nothing was taken for anything.
    image = axes.imshow(
        shares, cmap=colormaps["Blues"].with_extremes(bad="#e5e5e5"), vmin=0, vmax=1
    )
    axes.set_xticks(range(count), shown, rotation=90, fontsize=text_size)
    axes.set_yticks(range(count), shown, fontsize=text_size)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.3)
    axes.tick_params(which="minor", length=0)
    if count <= LABELS_WITH_NUMBERS:
        for row, column in np.ndindex(table.shape):
            if table[row, column]:
                colour = "white" if shares[row, column] > 0.6 else "black"
                axes.text(
                    column, row, f"{table[row, column]}", ha="center", va="center",
                    fontsize=7, color=colour,
                )  # fmt: skip
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, label="share of the true label")
    figure.savefig(path, bbox_inches="tight")
    return [path]


def draw_regression(true: FloatArray, predicted: FloatArray, path: Path) -> list[Path]:
    """Draw predicted over true values, float64 ``[n]`` each, with the line where they agree."""
    if not _can_draw():
        return []
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    low = float(min(true.min(), predicted.min()))
    high = float(max(true.max(), predicted.max()))
    axes.plot([low, high], [low, high], color="#555555", linewidth=1, label="agreement")
    axes.scatter(true, predicted, s=10, alpha=0.5, color="#4c72b0", linewidths=0)
    measures = regression_measures(true, predicted)
    axes.set(
        xlabel="true", ylabel="predicted",
        title="  ".join(f"{name} {readable(value, 3)}" for name, value in measures.items()),
    )  # fmt: skip
    axes.title.set_fontsize(10)
    axes.legend(frameon=False, fontsize=8)
    _tidy(axes)
    figure.savefig(path)
    return [path]


def draw_learning_curve(
    metrics_path: Path,
    path: Path,
    *,
    selection: str,
    best_epoch: int,
    bars: Mapping[str, float],
) -> list[Path]:
    """Draw the losses over the steps, and the selection metric at the end of each epoch.

    Args:
        metrics_path: ``metrics.jsonl`` of the run.
        path: of the PNG.
        selection: the metric by which the best epoch is chosen.
        best_epoch: the one that was chosen.
        bars: values to draw beside it.
    """
    if not _can_draw():
        return []
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in metrics_path.read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train" and line["loss"] is not None]
    validation = [line for line in lines if line["split"] == "validation"]
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    losses = figure.add_subplot(1, 2, 1)
    losses.plot(*_columns(train, "loss"), color="#9bb4d8", linewidth=0.8, label="training")
    losses.plot(
        *_columns(validation, "loss"), color="#c44e52", marker="o", markersize=3, label="validation"
    )
    highest = max((line["loss"] or 0.0 for line in [*train, *validation]), default=0.0)
    losses.set(xlabel="step", ylabel="loss", ylim=(0, 1.05 * highest or None))
    losses.legend(frameon=False, fontsize=8)
    _tidy(losses)
    measured = [line for line in validation if line.get(selection) is not None]
    if measured:
        axes = figure.add_subplot(1, 2, 2)
        axes.plot(
            *_columns(measured, selection), color="#c44e52", marker="o", markersize=3, clip_on=False
        )
        chosen = [line for line in measured if line["epoch"] == best_epoch]
        axes.plot(
            *_columns(chosen, selection), marker="o", markersize=9, markerfacecolor="none",
            color="black", linestyle="none", label=f"chosen: epoch {best_epoch}", clip_on=False,
        )  # fmt: skip
        for name, value in bars.items():
            axes.axhline(value, color="#555555", linestyle="--", linewidth=1, label=name)
        lowest = -1.0 if selection in CORRELATIONS else 0.0
        bottom, top = axes.get_ylim()
        if len(measured) == 1:
            bottom, top = 0.0, 1.0  # around a point matplotlib shows next to nothing
            bottom = lowest if measured[0][selection] < 0 else bottom
        axes.set(
            xlabel="step", ylabel=f"validation {selection}",
            ylim=(max(bottom, lowest), min(top, 1.0)),
        )  # fmt: skip
        axes.legend(frameon=False, fontsize=8)
        _tidy(axes)
    figure.savefig(path)
    return [path]


def _shortened(labels: Sequence[str]) -> list[str]:
    """Labels without the middle of long ones; whole where two would look the same."""
    half = (LONGEST_LABEL - 1) // 2
    short = [
        label
        if len(label) <= LONGEST_LABEL
        else f"{label[: LONGEST_LABEL - half - 1]}…{label[-half:]}"
        for label in labels
    ]
    counts = Counter(short)
    return [cut if counts[cut] == 1 else label for cut, label in zip(short, labels, strict=True)]


def _columns(lines: Sequence[Mapping[str, Any]], key: str) -> tuple[list[Any], list[Any]]:
    return [line["step"] for line in lines], [line[key] for line in lines]


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _can_draw() -> bool:
    if importlib.util.find_spec("matplotlib") is not None:
        return True
    logger.info("no pictures: matplotlib is not installed (pip install 'seqmlm[plot]')")
    return False
