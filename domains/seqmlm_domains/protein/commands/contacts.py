"""seqmlm protein contacts"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqmlm.cli.options import AsJson, Backend, Data, Device, Run

if TYPE_CHECKING:
    from seqmlm_domains.protein.contacts.evaluation import ContactPrecision

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

    from seqmlm.atomic_files import new_directory
    from seqmlm.cli.reading import end_progress, print_report, show_progress
    from seqmlm.data.report import ReadReport
    from seqmlm.errors import ConfigError
    from seqmlm.inference.records import encoded_records
    from seqmlm_domains.protein.contacts.evaluation import (
        check_known_contacts,
        contact_precision,
        read_known_contacts,
    )
    from seqmlm_domains.protein.contacts.output import write_contacts
    from seqmlm_domains.protein.contacts.prediction import contact_measure, predict_contacts
    from seqmlm_domains.protein.protein_model import load_protein_model

    model = load_protein_model(run, device=device, backend=backend)
    contacts = None if known is None else read_known_contacts(known)
    report = ReadReport()
    records = list(encoded_records(model.domain, data, report))
    if contacts is not None:
        lengths: dict[str, list[int]] = {}
        for record, encoding in records:
            lengths.setdefault(record.name, []).append(len(encoding) - 2)
        check_known_contacts(contacts, lengths)
    compared = []
    with new_directory(output, error=ConfigError) as folder:
        maps = (predict_contacts(model, record.name, encoding) for record, encoding in records)
        written = write_contacts(
            folder, maps, min_separation=min_separation, per_residue=per_residue
        )
        for number, found in enumerate(written, start=1):
            if contacts is not None and found.name in contacts.pairs:
                compared.append(found)
            show_progress(f"{number:,} of {len(records):,} proteins")
    end_progress()
    print_report(report)
    precision = None if contacts is None else contact_precision(compared, contacts)
    measure = contact_measure(model)
    if as_json:
        judged = None if precision is None else precision.to_json()
        print(json.dumps({"proteins": len(records), "measure": measure, "known": judged}))
        return
    if precision is not None:
        _print_precision(precision)
    print(f"{len(records):,} proteins; scores are of {measure}")
    for path in sorted(output.iterdir()):
        print(path)


def _print_precision(precision: ContactPrecision) -> None:
    from seqmlm.cli.analyse.results import print_rows
    from seqmlm_domains.protein.contacts.evaluation import PAIRS_TAKEN, SEPARATIONS

    rows = []
    for separation, (low, high) in SEPARATIONS.items():
        span = f"{separation}, {low} to {high - 1}" if high else f"{separation}, {low} and more"
        cells = (precision.precision[f"{separation} {taken}"] for taken in PAIRS_TAKEN)
        chance = precision.by_chance[separation]
        rows.append((span, *(f"{cell.value:.3f}" for cell in cells), f"{chance:.3f}"))
    print_rows(
        f"precision of the best pairs, mean of {precision.proteins:,} proteins of length L",
        ("separation", *PAIRS_TAKEN, "by chance"),
        rows,
    )
