"""Results as tables on standard output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    for name, scores in report.objectives.items():
        console.print(f"{name} in its own form: {scores.describe()}", markup=False)
    console.print(report.verdict)
    console.print(report.provenance)
    if by_token:
        console.print(_token_table(report))


def print_recorded(objectives: Mapping[str, Mapping[str, Any]], *, path: Path) -> None:
    """Print what a run recorded of its objectives; ``path`` is the file that holds it."""
    console = Console(highlight=False)
    console.print("Recorded at the end of training, on the run's held-out records; not measured")
    console.print(f"again, because the run predicts no tokens. From {path}", soft_wrap=True)
    for name, measures in objectives.items():
        table = Table(title=name, title_justify="left")
        table.add_column("measure")
        table.add_column("value", justify="right")
        losses = {f"loss of {term}, nats": value for term, value in measures["losses"].items()}
        others = {key: value for key, value in measures.items() if key not in ("loss", "losses")}
        for measure, value in (losses | others).items():
            table.add_row(Text(measure), _shown(value))
        console.print(table)


def _shown(value: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


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
