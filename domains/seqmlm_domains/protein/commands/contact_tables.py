"""Precision of predicted contacts as a table on standard output."""

from __future__ import annotations

from seqmlm.cli.analyse.results import print_rows
from seqmlm_domains.protein.contacts.evaluation import PAIRS_TAKEN, SEPARATIONS, ContactPrecision


def print_precision(precision: ContactPrecision) -> None:
    """Print one line for each range of separations; the last column is that of random pairs."""
    rows = []
    for separation, (low, high) in SEPARATIONS.items():
        span = f"{separation}, {low} to {high - 1}" if high else f"{separation}, {low} and more"
        cells = (precision.precision[f"{separation} {taken}"] for taken in PAIRS_TAKEN)
        chance = precision.by_chance[separation]
        rows.append((span, *(f"{cell.value:.3f}" for cell in cells), f"{chance:.3f}"))
    print_rows(
        f"precision of the best pairs, mean of {precision.proteins:,} proteins of length L",
        ("separation", *PAIRS_TAKEN, "by chance"),
        rows,
    )
