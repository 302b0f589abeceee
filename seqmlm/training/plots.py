"""The curves of a run as pictures."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger("seqmlm")


def plot_run(metrics_path: Path, folder: Path, *, bars: Mapping[str, float]) -> list[Path]:
    """Draw loss and learning rate over the steps; returns the PNG files written.

    Without matplotlib (the ``plot`` extra) nothing is drawn and one log line says so.

    Args:
        metrics_path: ``metrics.jsonl`` of the run.
        folder: for the pictures.
        bars: name -> validation loss, nats, drawn as horizontal lines.
    """
    if importlib.util.find_spec("matplotlib") is None:
        logger.info("no plots: matplotlib is not installed (pip install 'seqmlm[plot]')")
        return []
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in metrics_path.read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train" and line["loss"] is not None]
    validation = [line for line in lines if line["split"] == "validation"]
    loss, rate = Figure(figsize=(8, 4.5), dpi=120), Figure(figsize=(8, 2.5), dpi=120)
    _draw_loss(loss.add_subplot(), train, validation, bars)
    axes = rate.add_subplot()
    axes.plot(_column(train, "step"), _column(train, "learning_rate"), color="#4c72b0")
    axes.set(xlabel="step", ylabel="learning rate")
    written = []
    for figure, name in ((loss, "loss.png"), (rate, "learning_rate.png")):
        for each in figure.axes:
            each.spines[["top", "right"]].set_visible(False)
            each.grid(alpha=0.25)
        figure.tight_layout()
        figure.savefig(folder / name)
        written.append(folder / name)
    return written


def _draw_loss(
    axes: Any,
    train: list[dict[str, Any]],
    validation: list[dict[str, Any]],
    bars: Mapping[str, float],
) -> None:
    axes.plot(
        _column(train, "step"),
        _column(train, "loss"),
        color="#9bb4d8",
        linewidth=0.8,
        label="training (as corrupted)",
    )
    axes.plot(
        _column(validation, "step"),
        _column(validation, "loss"),
        color="#c44e52",
        marker="o",
        markersize=4,
        label="validation (always the same tokens)",
    )
    for style, (name, value) in zip(("-", "--", ":", "-."), bars.items(), strict=False):
        axes.axhline(value, color="#555555", linestyle=style, linewidth=1, label=f"bar: {name}")
    axes.set(xlabel="step", ylabel="loss, nats per token")
    axes.legend(frameon=False, fontsize=8)


def _column(lines: list[dict[str, Any]], key: str) -> list[Any]:
    return [line[key] for line in lines]
