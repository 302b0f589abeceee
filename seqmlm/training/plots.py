"""The curves of a run as pictures."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmlm.training.step import NATS_PER_TOKEN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger("seqmlm")

NEUTRAL = "#555555"


def plot_run(
    metrics_path: Path, folder: Path, *, bars: Mapping[str, float], loss_label: str
) -> list[Path]:
    """Draw loss and learning rate over the steps; returns the PNG files written.

    Losses in different units stand in panels of their own: a weighted sum above the means that it
    adds up, decisions below tokens. Each term has one colour. Without matplotlib (the ``plot``
    extra) nothing is drawn and one log line says so.

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
    axes.plot(
        _column(train, "step"),
        _column(train, "learning_rate"),
        color="#4c72b0",
        marker=_marker(train),
    )
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
    predicts_tokens = any("accuracy" in line for line in validation)
    trained = list(dict.fromkeys(term for line in train for term in line.get("losses", {})))
    if not trained and (not validation or predicts_tokens == (loss_label == NATS_PER_TOKEN)):
        figure, (axes,) = _panels(1)
        _draw_training(axes, train)
        _draw_validation(axes, validation, bars)
        if predicts_tokens:
            _draw_terms(axes, [], validation, _colours(_own_terms(validation)))
        _finish(axes, loss_label)
        return figure
    colours = _colours([*trained, *_own_terms(validation)])
    decided = _decided(validation)
    of_decisions = {term: colour for term, colour in colours.items() if term in decided}
    of_tokens = {term: colour for term, colour in colours.items() if term not in decided}
    kinds = {"mean loss, nats per target": of_tokens, "mean loss, nats per decision": of_decisions}
    shown = {
        label: terms
        for label, terms in kinds.items()
        if terms or (terms is of_tokens and predicts_tokens)
    }
    figure, (above, *below) = _panels(1 + len(shown))
    _draw_training(above, train)
    for axes, (label, terms) in zip(below, shown.items(), strict=True):
        _draw_terms(axes, train, validation, terms)
        if terms is of_tokens and predicts_tokens:
            _draw_validation(axes, validation, bars)
        _finish(axes, label)
    if not predicts_tokens:
        _draw_validation(above, validation, bars)
    _finish(above, loss_label)
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.5 + 3 * count), dpi=120)
    return figure, list(figure.subplots(count, 1, sharex=True, squeeze=False).flat)


def _colours(terms: Iterable[str]) -> dict[str, Any]:
    """One colour for each term, neither red nor grey: those are the common validation and bars."""
    from matplotlib import colormaps

    strong = (0, 2, 4, 8, 10, 12, 16, 18)
    order = cycle([*strong, *(shade + 1 for shade in strong)])
    return {
        term: colormaps["tab20"](shade)
        for term, shade in zip(dict.fromkeys(terms), order, strict=False)
    }


def _own_losses(validation: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Held-out means, by term, of the objectives that are measured in their own form."""
    return [
        {
            term: mean
            for objective in line.get("objectives", {}).values()
            for term, mean in objective["losses"].items()
        }
        for line in validation
    ]


def _own_terms(validation: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(term for line in _own_losses(validation) for term in line))


def _decided(validation: list[dict[str, Any]]) -> set[str]:
    """Terms whose targets are choices between two; chance is 0.69 nats, far below any token."""
    return {
        name
        for line in validation
        for name, objective in line.get("objectives", {}).items()
        if "decisions" in objective
    }


def _draw_training(axes: Axes, train: list[dict[str, Any]]) -> None:
    axes.plot(
        _column(train, "step"),
        _column(train, "loss"),
        color="#9bb4d8",
        linewidth=0.8,
        marker=_marker(train),
        label="training (as corrupted)",
    )


def _marker(lines: list[dict[str, Any]]) -> str:
    """A line through one point cannot be seen."""
    return "o" if len(lines) == 1 else ""


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
        axes.axhline(value, color=NEUTRAL, linestyle=style, linewidth=1, label=f"bar: {name}")


def _draw_terms(
    axes: Axes,
    train: list[dict[str, Any]],
    validation: list[dict[str, Any]],
    colours: Mapping[str, Any],
) -> None:
    """One colour a term: thin in training, dashed on held-out records in its own form."""
    own = _own_losses(validation)
    means = [line.get("losses", {}) for line in train]
    for term, colour in colours.items():
        in_training, held_out = _values(means, term), _values(own, term)
        if not all(map(math.isnan, in_training)):
            axes.plot(
                _column(train, "step"), in_training,
                color=colour, linewidth=0.9, marker=_marker(train),
            )  # fmt: skip
        if not all(map(math.isnan, held_out)):
            steps = _column(validation, "step")
            axes.plot(
                steps, held_out, color=colour, linewidth=1, linestyle="--", marker="x", markersize=4
            )
        axes.plot([], [], color=colour, linewidth=3, label=term)
    if colours:
        if any(term in line for line in means for term in colours):
            axes.plot([], [], color=NEUTRAL, linewidth=0.9, label="solid: training")
        if any(term in line for line in own for term in colours):
            label = "dashed: validation, as trained"
            axes.plot([], [], color=NEUTRAL, linewidth=1, linestyle="--", marker="x", label=label)


def _values(lines: list[dict[str, Any]], term: str) -> list[float]:
    found = [line.get(term) for line in lines]
    return [math.nan if value is None else value for value in found]


def _finish(axes: Axes, label: str) -> None:
    axes.set(xlabel="step", ylabel=label)
    axes.label_outer()  # panels share the steps
    if axes.get_legend_handles_labels()[0]:
        # Above the axes, where no line can run through it.
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=8)


def _column(lines: list[dict[str, Any]], key: str) -> list[Any]:
    return [math.nan if line[key] is None else line[key] for line in lines]
