"""The curves of a run as pictures."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmlm.training.step import NATS_PER_TOKEN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger("seqmlm")


def plot_run(
    metrics_path: Path, folder: Path, *, bars: Mapping[str, float], loss_label: str
) -> list[Path]:
    """Draw loss and learning rate over the steps; returns the PNG files written.

    Losses in different units stand in panels of their own: a weighted sum above the means that it
    adds up. Without matplotlib (the ``plot`` extra) nothing is drawn and one log line says so.

    Args:
        metrics_path: ``metrics.jsonl`` of the run.
        folder: for the pictures.
        bars: name -> validation loss, nats per token, drawn as horizontal lines.
        loss_label: of the axis of the training loss; see :attr:`Stepper.loss_label`.
    """
    if importlib.util.find_spec("matplotlib") is None:
        logger.info("no plots: matplotlib is not installed (pip install 'seqmlm[plot]')")
        return []
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in metrics_path.read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train" and line["loss"] is not None]
    validation = [line for line in lines if line["split"] == "validation"]
    rate = Figure(figsize=(8, 2.5), dpi=120)
    axes = rate.add_subplot()
    axes.plot(_column(train, "step"), _column(train, "learning_rate"), color="#4c72b0")
    axes.set(xlabel="step", ylabel="learning rate")
    written = []
    loss = _loss_figure(train, validation, bars, loss_label)
    for figure, name in ((loss, "loss.png"), (rate, "learning_rate.png")):
        for each in figure.axes:
            each.spines[["top", "right"]].set_visible(False)
            each.grid(alpha=0.25)
        figure.tight_layout()
        figure.savefig(folder / name)
        written.append(folder / name)
    return written


def _loss_figure(
    train: list[dict[str, Any]],
    validation: list[dict[str, Any]],
    bars: Mapping[str, float],
    loss_label: str,
) -> Figure:
    from matplotlib.figure import Figure

    predicts_tokens = any("accuracy" in line for line in validation)
    terms = list(dict.fromkeys(term for line in train for term in line.get("losses", {})))
    if not terms and (not validation or predicts_tokens == (loss_label == NATS_PER_TOKEN)):
        figure = Figure(figsize=(8, 4.5), dpi=120)
        axes = figure.add_subplot()
        _draw_training(axes, train)
        _draw_validation(axes, validation, bars)
        if predicts_tokens:
            _draw_own_losses(axes, validation)
        _finish(axes, loss_label)
        return figure
    figure = Figure(figsize=(8, 7.5), dpi=120)
    above, below = figure.subplots(2, 1, sharex=True)
    _draw_training(above, train)
    for term in terms:
        means = [line.get("losses", {}).get(term) for line in train]
        below.plot(
            _column(train, "step"),
            [math.nan if mean is None else mean for mean in means],
            linewidth=0.8,
            marker=".",
            markersize=2,
            label=f"training: {term}",
        )
    _draw_own_losses(below, validation)
    _draw_validation(below if predicts_tokens else above, validation, bars)
    _finish(above, loss_label)
    _finish(below, "mean loss, nats per target")
    return figure


def _draw_training(axes: Axes, train: list[dict[str, Any]]) -> None:
    axes.plot(
        _column(train, "step"),
        _column(train, "loss"),
        color="#9bb4d8",
        linewidth=0.8,
        label="training (as corrupted)",
    )


def _draw_validation(
    axes: Axes, validation: list[dict[str, Any]], bars: Mapping[str, float]
) -> None:
    axes.plot(
        _column(validation, "step"),
        _column(validation, "loss"),
        color="#c44e52",
        marker="o",
        markersize=4,
        label="validation (always the same targets)",
    )
    for style, (name, value) in zip(("-", "--", ":", "-."), bars.items(), strict=False):
        axes.axhline(value, color="#555555", linestyle=style, linewidth=1, label=f"bar: {name}")


def _draw_own_losses(axes: Axes, validation: list[dict[str, Any]]) -> None:
    """Held-out means of the objectives that are measured in their own form."""
    losses = [
        {
            term: mean
            for objective in line.get("objectives", {}).values()
            for term, mean in objective["losses"].items()
        }
        for line in validation
    ]
    for term in dict.fromkeys(term for line in losses for term in line):
        axes.plot(
            _column(validation, "step"),
            [line.get(term, math.nan) for line in losses],
            linewidth=1,
            marker="x",
            markersize=4,
            label=f"validation: {term}",
        )


def _finish(axes: Axes, label: str) -> None:
    axes.set(xlabel="step", ylabel=label)
    if axes.get_legend_handles_labels()[0]:
        # Above the axes, where no line can run through it.
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=8)


def _column(lines: list[dict[str, Any]], key: str) -> list[Any]:
    return [math.nan if line[key] is None else line[key] for line in lines]
