"""seqmlm kg audit"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmlm.cli.options import AsJson

NAME = "audit"
EXAMPLES = """Examples:

seqmlm kg audit WN18RR

seqmlm kg audit WN18RR --json"""


def run(
    folder: Annotated[
        Path,
        typer.Argument(help="Holds train, and perhaps valid, test and texts.", show_default=False),
    ],
    as_json: AsJson = False,
) -> None:
    """Find what in a graph's files will distort results.

    Entities and relations that training does not know, triples that leak or are stated in reverse,
    duplicates, relations that repeat each other, names that several entities share, and how many
    right answers a question has.
    """
    import json

    from seqmlm_domains.kg.audit import audit_graph, findings
    from seqmlm_domains.kg.commands.audit_tables import print_audit

    audit = audit_graph(folder)
    if as_json:
        print(json.dumps(audit.to_json() | {"findings": findings(audit)}))
    else:
        print_audit(audit, title=str(folder))
