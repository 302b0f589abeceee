"""seqmlm protein: one file per command, which parses, calls and prints."""

from __future__ import annotations

import typer

from seqmlm_domains.protein.commands import contacts, homologs, probe, variants

app = typer.Typer(
    help="Proteins: families and the effects of mutations.",
    epilog="""Examples:

seqmlm protein variants runs/protein --wild-type wt.fasta --mutations dms.csv""",
    no_args_is_help=True,
)

for command in (contacts, homologs, probe, variants):
    app.command(name=command.NAME, epilog=command.EXAMPLES)(command.run)
