"""seqmlm code: one file per command, which parses, calls and prints."""

from __future__ import annotations

import typer

from seqmlm_domains.code.commands import complete, fit, serve

app = typer.Typer(
    help="Source code: complete identifiers, for editors too.",
    epilog="""Examples:

seqmlm code complete runs/code --file module.py --line 12 --column 9

seqmlm code fit runs/code --data repository

seqmlm code serve runs/code --lsp""",
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    """Make the commands names of their own, however few there are."""


for command in (complete, fit, serve):
    app.command(name=command.NAME, epilog=command.EXAMPLES)(command.run)
