"""Measures of labelled tasks as tables on standard output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from seqmlm.readable import readable

if TYPE_CHECKING:
    from seqmlm.finetuning.statistics import Evaluation, Metric


def print_evaluations(
    evaluations: Mapping[str, Evaluation], *, best_epoch: int | None = None
) -> None:
    """Print each metric with its interval, and the bars."""
    console = Console(highlight=False)
    for name, evaluation in evaluations.items():
        title = f"{name}: {evaluation.examples:,} examples"
        if best_epoch is not None:
            title += f", epoch {best_epoch}"
        table = Table(title=title, title_justify="left")
        table.add_column("measure")
        table.add_column("value", justify="right")
        table.add_column("95 % interval", justify="right")
        for metric, found in evaluation.metrics.items():
            table.add_row(metric, readable(found.value), _interval(found))
        for bar, value in evaluation.bars.items():
            table.add_row(f"bar: {bar}", readable(value), "")
        console.print(table)


def _interval(metric: Metric) -> str:
    """Both ends; a dash where there were too few examples to resample."""
    return "-" if math.isnan(metric.low) else f"{readable(metric.low)} to {readable(metric.high)}"
