"""seqmlm code fit"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from seqmlm.cli.options import AsJson, Backend, Device, Seed

NAME = "fit"
EXAMPLES = """Examples:

seqmlm code fit runs/code --data repository

seqmlm code fit runs/code --data repository --held-out other_repository --positions 4000"""


_MEASURES: Final = {"top_1": "top-1", "top_5": "top-5", "mean_reciprocal_rank": "MRR"}
"""Field of the report -> as it is shown, in percent."""


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

    from seqmlm.cli.reading import print_report, progress_console
    from seqmlm_domains.code.commands.fitting_display import FittingDisplay
    from seqmlm_domains.code.completion.project_fitting import fit_project

    logger = logging.getLogger("seqmlm")
    with FittingDisplay(progress_console()) as display:
        fitted = fit_project(
            run,
            data,
            held_out=held_out,
            positions=positions,
            seed=seed,
            device=device,
            backend=backend,
            on_progress=display.show,
        )
    print_report(fitted.files)
    for language in fitted.without_weights:
        logger.warning(
            "%s: the held-out files hold too few names, so the weights are those of another "
            "language. Give at least two files with names by --held-out.",
            language,
        )
    for language, of_language in fitted.report.items():
        for sides, choices in of_language.items():
            if worse := _worse_with_model(choices):
                logger.warning(
                    "%s, %s: on the held-out names the mixture is better without the model: %s.",
                    *(language, sides, worse),
                )
    if as_json:
        print(json.dumps(fitted.report))
        return
    for language, of_language in fitted.report.items():
        for sides, choices in of_language.items():
            _print_table(f"{language}, {sides}", choices)
    print(
        "In brackets: points more (+) or fewer (-) than the mixture of all parts. A minus beside "
        "'without' a part is what that part adds; a plus, what it takes away."
    )
    print(f"written: {fitted.folder}")


def _worse_with_model(choices: Mapping[str, Mapping[str, float]]) -> str:
    """What the model makes worse, for people; nothing if it makes nothing worse."""
    from seqmlm_domains.code.completion.fitting import WITH_MODEL, WITHOUT_MODEL

    with_model, without = choices[WITH_MODEL], choices[WITHOUT_MODEL]
    return ", ".join(
        f"{_MEASURES[name]} {100 * value:.1f} with it, {100 * without[name]:.1f} without"
        for name, value in with_model.items()
        if value < without[name]
    )


def _print_table(title: str, choices: Mapping[str, Mapping[str, float]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from seqmlm_domains.code.completion.fitting import WITH_MODEL

    table = Table(title, *_MEASURES.values())
    for choice, accuracy in choices.items():
        row = [f"{100 * value:.1f}" for value in accuracy.values()]
        if choice != WITH_MODEL:
            whole = choices[WITH_MODEL]
            row = [
                f"{reached} ({100 * (accuracy[name] - whole[name]):+.1f})"
                for reached, name in zip(row, accuracy, strict=True)
            ]
        table.add_row(choice, *row)
    Console().print(table)
