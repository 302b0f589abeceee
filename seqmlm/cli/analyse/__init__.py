"""seqmlm analyse: one file per analysis, which parses, calls, prints a table and writes files."""

from __future__ import annotations

import typer

from seqmlm.cli.analyse import (
    attention,
    joint_gap,
    mask_rate,
    probe,
    pseudo_likelihood,
    surprisal,
)

NAME = "analyse"
SUMMARY = "Look into a model: surprisal, attention, mask rates, dependence, probes."
EXAMPLES = """Examples:

seqmlm analyse surprisal runs/text 'To be, or not to be'

seqmlm analyse probe runs/text words.conll

seqmlm analyse mask-rate runs/protein"""

app = typer.Typer(no_args_is_help=True)

for command in (surprisal, attention, pseudo_likelihood, joint_gap, mask_rate, probe):
    app.command(name=command.NAME, epilog=command.EXAMPLES)(command.run)
