"""seqmlm protein contacts"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmlm.cli.options import AsJson, Backend, Data, Device, Run

NAME = "contacts"
EXAMPLES = """Examples:

seqmlm protein contacts runs/esm2 mine.fasta --output contacts

seqmlm protein contacts runs/esm2 mine.fasta --output contacts --known structures.csv

In Python: numpy.load("contacts/contacts.npz")["map_1"]"""


def run(
    run: Run,
    data: Data,
    output: Annotated[Path, typer.Option(help="Folder for CSV, NPZ and PNG; must not exist.")],
    known: Annotated[
        Path | None,
        typer.Option(help="Table of known contacts (name, i, j; from 1), to compare with."),
    ] = None,
    min_separation: Annotated[
        int, typer.Option(min=1, help="Residues from one of a listed pair to the other.")
    ] = 6,
    per_residue: Annotated[
        float, typer.Option(min=0.0, help="Pairs listed, times the length of the protein.")
    ] = 2.0,
    device: Device = "auto",
    backend: Backend = "auto",
    as_json: AsJson = False,
) -> None:
    """Predict which residues of a protein touch, from the attention of a model.

    An imported ESM-2 has learned from structures which of its heads to trust, and gives
    probabilities. Of any other model the mean of all heads ranks the pairs, without structures.
    """
    import json

    from seqmlm.cli.reading import end_progress, print_report, show_progress
    from seqmlm.readable import counted
    from seqmlm_domains.protein.commands.contact_tables import print_precision
    from seqmlm_domains.protein.contacts.contact_job import write_predicted_contacts
    from seqmlm_domains.protein.contacts.evaluation import read_known_contacts
    from seqmlm_domains.protein.protein_model import load_protein_model

    written = write_predicted_contacts(
        load_protein_model(run, device=device, backend=backend),
        data,
        output,
        known=None if known is None else read_known_contacts(known),
        min_separation=min_separation,
        per_residue=per_residue,
        on_progress=lambda done, proteins: show_progress(f"{done:,} of {proteins:,} proteins"),
    )
    end_progress()
    print_report(written.report)
    if as_json:
        print(json.dumps(written.to_json()))
        return
    if written.precision is not None:
        print_precision(written.precision)
    print(f"{counted(written.proteins, 'protein')}; scores are of {written.measure}")
    if written.measure != "probability" and written.precision is None:
        print("they rank pairs; what they are worth is known beside known contacts: --known")
    for path in sorted(output.iterdir()):
        print(path)
