"""seqmlm code fit"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmlm.cli.options import AsJson, Backend, Device, Seed

NAME = "fit"
EXAMPLES = """Examples:

seqmlm code fit runs/code --data repository

seqmlm code fit runs/code --data repository --held-out other_repository --positions 4000"""


def run(
    run: Annotated[Path, typer.Argument(help="A run of domain code.", show_default=False)],
    data: Annotated[list[str], typer.Option(help="The project: files, folders, glob patterns.")],
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            help="Files that the model was not trained on, for the weights; without it every tenth "
            "file of the project, which makes a model that saw it look better than it is."
        ),
    ] = None,
    positions: Annotated[
        int, typer.Option(min=100, help="Names to hide for the weights of each language.")
    ] = 2000,
    seed: Seed = 0,
    device: Device = "auto",
    backend: Backend = "auto",
    as_json: AsJson = False,
) -> None:
    """Fit completion to a project: count its names, weigh model against counts.

    Writes the folder `completion` of the run, which `seqmlm code complete` and `serve` read.
    """
    import json
    import logging

    from rich.console import Console
    from rich.table import Table

    from seqmlm.cli.reading import print_report
    from seqmlm_domains.code.completion.project_fitting import fit_project

    fitted = fit_project(
        run,
        data,
        held_out=held_out,
        positions=positions,
        seed=seed,
        device=device,
        backend=backend,
    )
    print_report(fitted.files)
    for language in fitted.without_weights:
        logging.getLogger("seqmlm").warning(
            "%s: the held-out files hold too few names, so the weights are those of another "
            "language. Give at least two files with names by --held-out.",
            language,
        )
    if as_json:
        print(json.dumps(fitted.report))
        return
    for language, of_language in fitted.report.items():
        for sides, choices in of_language.items():
            table = Table(f"{language}, {sides}", "top-1", "top-5", "MRR")
            for name, accuracy in choices.items():
                table.add_row(name, *(f"{100 * value:.1f}" for value in accuracy.values()))
            Console().print(table)
    print(f"written: {fitted.folder}")
