"""seqmlm protein homologs"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmlm.cli.options import AsJson, Data

NAME = "homologs"
EXAMPLES = """Examples:

seqmlm protein homologs family.fasta --wild-type wt.fasta --output remote.fasta

seqmlm train --domain protein --data remote.fasta --set data.sampling=cluster"""


def run(
    data: Data,
    wild_type: Annotated[Path, typer.Option(help="FASTA file with one protein.")],
    output: Annotated[Path, typer.Option(help="FASTA file to write.")],
    max_identity: Annotated[
        float, typer.Option(help="Homologs at least so identical to the wild type are left out.")
    ] = 0.95,
    as_json: AsJson = False,
) -> None:
    """Leave the near copies of a wild type out of its family.

    A model that is to be judged by measured variants of a protein must not have been trained on
    them. Identity is the share of the wild type's residues that the aligned homolog has too.
    """
    import json
    from dataclasses import asdict

    from seqmlm_domains.protein.homologs import write_remote_homologs
    from seqmlm_domains.protein.variants.wild_type import read_wild_type

    counts = write_remote_homologs(
        read_wild_type(wild_type).content, data, output, max_identity=max_identity
    )
    if as_json:
        print(json.dumps(asdict(counts)))
    else:
        print(
            f"{counts.written:,} homologs below {max_identity:.0%} identity written to {output}, "
            f"{counts.left_out:,} left out" + (f", {counts.empty:,} empty" if counts.empty else "")
        )
