"""Measurements over rates, distances, layers and lengths, with their standard errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from seqmlm.analysis.estimate import Estimate
from seqmlm.analysis.joint_gap import JointGapReport
from seqmlm.analysis.mask_rate import MaskRateReport, VarianceCurve
from seqmlm.analysis.pictures.style import BLUE, GREEN, GREY, RED, new_figure, plain
from seqmlm.analysis.probe import ProbeReport
from seqmlm.analysis.pseudo_likelihood import LikelihoodReport

NAMED_RECORDS = 5
"""Least likely records that carry their names in the picture."""

PROBE_LEGEND = (
    "accuracy",
    "control task",
    "selectivity",
    "balanced accuracy",
    "majority: accuracy",
    "majority: balanced",
)


def draw_mask_rate(report: MaskRateReport) -> Figure:
    """Draw gradient variance (both axes logarithmic) and masked loss over the rate."""
    figure = new_figure(10, 4.2)
    left, right = map(plain, figure.subplots(1, 2))
    rates = [point.rate for point in report.fixed.points]
    kinds = (
        (report.fixed, BLUE, "o", f"{report.corrupt_rate:.0%} hidden at every rate"),
        (report.coupled, RED, "s", "all hidden tokens predicted"),
    )
    for curve, colour, marker, name in kinds:
        label = f"{name}: slope {curve.slope.value:.2f} ± {_error(curve.slope):.2f}"
        variances = [point.variance for point in curve.points]
        _measured(left, rates, variances, colour=colour, marker=marker, label=label)
        losses = [point.loss for point in curve.points]
        _measured(right, rates, losses, colour=colour, marker=marker, label=name)
    left.plot(rates, _inverse(report.fixed, rates), "--", color=GREY, linewidth=1, label="slope -1")
    left.set(xscale="log", yscale="log", ylabel="variance of the gradient (trace)")
    left.set_xlabel("share of the tokens that is predicted")
    right.set(xlabel="share of the tokens that is predicted", ylabel="masked loss, nats per token")
    left.set_xticks(rates)
    left.xaxis.set_minor_formatter(NullFormatter())
    left.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
    return figure


def draw_joint_gap(report: JointGapReport) -> Figure:
    """Draw gap and inconsistency of the orders over the distance."""
    figure = new_figure(10, 3.9)
    left, right = map(plain, figure.subplots(1, 2))
    distances = [found.distance for found in report.distances]
    word = {2: "pair", 3: "triple"}[report.tuple_size]
    _measured(left, distances, [found.gap for found in report.distances], colour=BLUE)
    left.axhline(0, color=GREY, linewidth=1, linestyle="--")
    left.set(ylabel=f"nats per {word}", title="gained by predicting jointly")
    _measured(
        right,
        distances,
        [found.inconsistency for found in report.distances],
        colour=RED,
        marker="s",
    )
    right.set(ylabel=f"nats per {word}", title="by which the orders of the chain rule disagree")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xlabel("distance of the masked tokens, positions")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.title.set_fontsize(10)
    return figure


def draw_probe(report: ProbeReport) -> Figure:
    """Draw accuracy, control accuracy and balanced accuracy over the layers."""
    figure = new_figure(7.5, 4.4)
    axes = plain(figure.add_subplot())
    layers = [scores.layer for scores in report.layers]
    accuracy = [scores.accuracy for scores in report.layers]
    control = [scores.control_accuracy for scores in report.layers]
    balanced = [scores.balanced_accuracy for scores in report.layers]
    axes.fill_between(
        layers,
        [found.value for found in control],
        [found.value for found in accuracy],
        color=BLUE,
        alpha=0.10,
        label="selectivity",
    )
    _measured(axes, layers, accuracy, colour=BLUE, label="accuracy")
    _measured(axes, layers, control, colour=GREY, marker="s", label="control task")
    axes.plot(layers, balanced, color=GREEN, marker="^", markersize=5, label="balanced accuracy")
    for value, colour, name in (
        (report.majority_accuracy, BLUE, "majority: accuracy"),
        (report.majority_balanced_accuracy, GREEN, "majority: balanced"),
    ):
        axes.axhline(value, color=colour, linewidth=1, linestyle=":", label=name)
    axes.set_xticks(layers, ["embeddings", *map(str, layers[1:])])
    axes.set(xlabel="layer", ylabel="share of the test words", ylim=(0, 1.02))
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    order = sorted(handles, key=PROBE_LEGEND.index)
    axes.legend(
        [handles[name] for name in order],
        order,
        frameon=False,
        fontsize=8,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
    return figure


def draw_likelihood(report: LikelihoodReport) -> Figure:
    """Draw how the log-likelihoods per token are distributed, and how they go with length."""
    figure = new_figure(11.5, 4.2)
    left, right = map(plain, figure.subplots(1, 2, sharey=True, width_ratios=(1, 2)))
    scores = np.array([record.per_token for record in report.records])
    lengths = np.array([record.tokens for record in report.records])
    bins = int(np.clip(math.sqrt(len(scores)) * 2, 5, 60))
    left.hist(scores, bins=bins, orientation="horizontal", color=BLUE, alpha=0.75)
    left.axhline(float(np.median(scores)), color=GREY, linestyle="--", linewidth=1)
    kind = "log-likelihood" if report.direction else "pseudo-log-likelihood"
    left.set(xlabel="records", ylabel=f"{kind}, nats per token")
    left.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    right.axhline(float(np.median(scores)), color=GREY, linestyle="--", linewidth=1, label="median")
    right.scatter(lengths, scores, s=14, color=BLUE, alpha=0.5, linewidths=0)
    for rank, record in enumerate(report.least_likely[:NAMED_RECORDS], start=1):
        name = record.name if len(record.name) <= 24 else f"{record.name[:23]}…"
        place = (record.tokens, record.per_token)
        right.scatter(*place, s=22, color=RED, label=f"{rank}  {name}")
        right.annotate(
            str(rank),
            place,
            xytext=(5 if rank % 2 else -5, 0),
            textcoords="offset points",
            ha="left" if rank % 2 else "right",
            fontsize=8,
            va="center",
            color=RED,
        )
    right.set_xlabel("scored tokens of the record")
    right.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if lengths.max() > 20 * lengths.min():
        right.set_xscale("log")
    legend = right.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _measured(
    axes: Axes,
    places: Sequence[float],
    estimates: Sequence[Estimate],
    *,
    colour: str,
    marker: str = "o",
    label: str | None = None,
) -> None:
    """Points with bars of one standard error."""
    axes.errorbar(
        places,
        [found.value for found in estimates],
        yerr=[_error(found) for found in estimates],
        color=colour,
        marker=marker,
        markersize=5,
        linewidth=1.3,
        elinewidth=1,
        capsize=2.5,
        label=label,
    )


def _error(found: Estimate) -> float:
    return 0.0 if math.isnan(found.standard_error) else found.standard_error


def _inverse(curve: VarianceCurve, rates: Sequence[float]) -> list[float]:
    """Variance in inverse proportion to the rate, through the first point."""
    return [curve.points[0].variance.value * rates[0] / rate for rate in rates]
