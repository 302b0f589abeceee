"""What the analyses share on the command line: options, tables, and where results go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Output = Annotated[
    Path | None,
    typer.Option(help="Folder for PNG and JSON; RUN/analysis if not given.", show_default=False),
]
Seed = Annotated[int, typer.Option(min=0, help="Of everything that is drawn at random.")]
HeldOut = Annotated[
    list[str] | None,
    typer.Option(help="Other data instead of what the run held out; repeatable."),
]


def print_rows(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are numbers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for index, heading in enumerate(header):
        table.add_column(heading, justify="right" if index else "left")
    for row in rows:
        # Not strings: brackets in them would be taken for markup.
        table.add_row(*(Text(cell.replace("\n", " "), overflow="ellipsis") for cell in row))
    Console(highlight=False).print(table)


def write_analysis(
    run: Path,
    output: Path | None,
    name: str,
    content: Mapping[str, Any],
    draw: Callable[[], Mapping[str, Figure]],
) -> None:
    """Write JSON and pictures to ``output``, or beside the run, and print their paths."""
    from seqmlm.analysis.output import write_results

    for path in write_results(output or run / "analysis", name, content, draw=draw):
        print(path)
