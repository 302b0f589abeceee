"""Scores of variants as tables on standard output."""

from __future__ import annotations

import math
from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from seqmlm.finetuning.statistics import Metric
from seqmlm_domains.protein.variants.comparison import MIN_VARIANTS, VariantComparison
from seqmlm_domains.protein.variants.scorer import VariantScores

MOST_REASONS = 5
"""Kinds of reasons in the summary; the table written has all."""


def print_comparison(comparison: VariantComparison) -> None:
    """Print Spearman's correlation with its interval, one predictor a line, the model first."""
    table = Table(
        title=f"Spearman's correlation with {comparison.variants:,} measured values",
        title_justify="left",
    )
    table.add_column("predictor")
    for heading in ("Spearman", "95 % interval"):
        table.add_column(heading, justify="right")
    for index, (name, metric) in enumerate(comparison.spearman.items()):
        cells = _cells(metric, comparison.variants)
        table.add_row(Text(name), *cells, style=None if index else "bold")
    Console(highlight=False).print(table)
    if comparison.not_compared:
        print(
            f"{comparison.not_compared:,} scored variants are not compared: no measured value, or "
            "residues inserted or deleted"
        )


def print_summary(scores: VariantScores) -> None:
    """Say how many variants have a score, why others have none, and how they were read."""
    print(f"{scores.num_scored:,} of {len(scores.items):,} variants scored by {scores.method}")
    reasons = Counter(item.reason for item in scores.items if item.score is None)
    for reason, count in reasons.most_common(MOST_REASONS):
        print(f"  no score: {reason}: {count:,}")
    if len(reasons) > MOST_REASONS:
        print(f"  and {len(reasons) - MOST_REASONS:,} more reasons, in the table written")
    print(scores.numbering.describe())
    if scores.window is not None:
        print(
            f"the protein has {len(scores.wild_type):,} residues, the model sees windows of "
            f"{scores.window:,} centred on the mutated sites"
        )


def _cells(metric: Metric, variants: int) -> tuple[str, str]:
    if variants < MIN_VARIANTS:
        return "-", f"needs {MIN_VARIANTS} values"
    if math.isnan(metric.value):
        return "-", "all values are the same"
    return f"{metric.value:.3f}", f"{metric.low:.3f} to {metric.high:.3f}"
