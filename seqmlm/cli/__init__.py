"""The command line: one file per command, which parses, calls and prints."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from seqmlm import __version__
from seqmlm.cli import (
    analyse,
    doctor,
    domains,
    embed,
    evaluate,
    export_hf,
    fill_mask,
    finetune,
    generate,
    import_hf,
    infill,
    predict,
    prepare,
    score,
    train,
)
from seqmlm.cli.groups import CommandsAndGroups
from seqmlm.errors import SeqmlmError

app = typer.Typer(
    name="seqmlm",
    cls=CommandsAndGroups,
    help="Masked modelling of any discrete sequence: proteins, text, code, knowledge graphs.",
    epilog="Start with:  seqmlm train --domain protein  (a small real run, no data needed)",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    train,
    evaluate,
    finetune,
    predict,
    fill_mask,
    infill,
    generate,
    score,
    embed,
    prepare,
    import_hf,
    export_hf,
    domains,
    doctor,
):
    app.command(name=command.NAME, epilog=command.EXAMPLES, short_help=command.SUMMARY)(command.run)
app.add_typer(analyse.app, name=analyse.NAME, help=analyse.SUMMARY, epilog=analyse.EXAMPLES)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"seqmlm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only warnings and results, no progress.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    level = logging.WARNING if quiet else logging.INFO
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(level)  # of the handler too: a run's log file gets more than the terminal
    logging.basicConfig(handlers=[terminal], format="%(message)s", level=level)


def main() -> None:
    """Run one command; a user's mistake becomes one clear line and an exit code.

    0 done, 1 run failed, 2 usage or configuration, 3 data, 130 and 143 stopped by a signal.
    Typer sees to a keyboard interrupt (130) and a reader of our output that has gone (1).
    """
    # Threads that wait by spinning slow a busy machine down tenfold; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except SeqmlmError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
