"""seqmlm kg: one file per command, which parses, calls and prints."""

from __future__ import annotations

import typer

from seqmlm_domains.kg.commands import audit

app = typer.Typer(
    help="Knowledge graphs: look into their files, predict links, evaluate.",
    epilog="""Examples:

seqmlm kg audit WN18RR""",
    no_args_is_help=True,
)

for command in (audit,):
    app.command(name=command.NAME, epilog=command.EXAMPLES)(command.run)


@app.callback()
def _group() -> None:
    """Keeps the group a group while it has one command."""
