"""seqmlm kg: one file per command, which parses, calls and prints."""

from __future__ import annotations

import typer

from seqmlm_domains.kg.commands import add_entity, audit, evaluate, explain, predict

app = typer.Typer(
    help="Knowledge graphs: look into their files, predict links, evaluate.",
    epilog="""Examples:

seqmlm kg audit WN18RR

seqmlm kg evaluate runs/wn18rr

seqmlm kg predict runs/wn18rr --head HEAD --relation RELATION""",
    no_args_is_help=True,
)

for command in (audit, evaluate, predict, explain, add_entity):
    app.command(name=command.NAME, epilog=command.EXAMPLES)(command.run)
