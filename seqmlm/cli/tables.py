"""Results as tables on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from seqmlm.evaluation.report import EvaluationReport

MOST_TOKENS = 40
"""Rows of the table by token; vocabularies of words have thousands."""


def print_evaluation(report: EvaluationReport, *, by_token: bool) -> None:
    """Print model and bars side by side, the verdict, and the loss of each true token."""
    console = Console(highlight=False)
    table = Table(
        title=f"{report.scores.targets:,} {report.targets} of {report.sequences:,} held-out "
        "sequences",
        title_justify="left",
    )
    table.add_column("predictor")
    for heading in ("nats", "perplexity", "accuracy"):
        table.add_column(heading, justify="right")
    for name, loss, perplexity, accuracy in report.rows():
        style = "bold" if name == "model" else None
        table.add_row(name, f"{loss:.3f}", f"{perplexity:.2f}", f"{accuracy:.3f}", style=style)
    console.print(table)
    console.print(report.verdict)
    console.print(report.provenance)
    if by_token:
        console.print(_token_table(report))


def _token_table(report: EvaluationReport) -> Table:
    rows = report.scores.by_token(report.tokens)
    title = "by true token"
    if len(rows) > MOST_TOKENS:
        title += f": the {MOST_TOKENS} most frequent of {len(rows):,} (--json has all)"
        rows = sorted(rows, key=lambda row: -row["targets"])[:MOST_TOKENS]
    table = Table(title=title, title_justify="left")
    for heading in ("token", "targets", "nats", "accuracy"):
        table.add_column(heading, justify="left" if heading == "token" else "right")
    for row in rows:
        token: str = row["token"]
        shown = token if token.isprintable() and not token.isspace() else repr(token)
        table.add_row(
            Text(shown),  # not a string: brackets in it would be taken for markup
            *(f"{row['targets']:,}", f"{row['loss']:.3f}", f"{row['accuracy']:.3f}"),
        )
    return table
