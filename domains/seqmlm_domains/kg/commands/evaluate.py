"""seqmlm kg evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmlm.cli.options import AsJson, Backend, Device
from seqmlm_domains.kg.commands.options import End, GraphRun, Normalise

NAME = "evaluate"
EXAMPLES = """Examples:

seqmlm kg evaluate runs/wn18rr

seqmlm kg evaluate runs/wn18rr --by-relation

seqmlm kg evaluate runs/wn18rr --data WN18RR --json"""


def run(
    run: GraphRun,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with the test triples; that of the run if not given."),
    ] = None,
    by_relation: Annotated[
        bool, typer.Option("--by-relation", help="A row for each relation.")
    ] = False,
    normalise: Normalise = None,
    end: End = None,
    device: Device = "auto",
    backend: Backend = "auto",
    as_json: AsJson = False,
) -> None:
    """Rank the true heads and tails of test triples among the entities of all triples.

    Filtered: what the run's training and validation triples state, or those to evaluate, is no
    candidate; other files of the folder play no part. Ties count half
    (realistic); entities that training does not know are ranked too, and reported apart.
    """
    import json

    from seqmlm_domains.kg.commands.link_tables import print_ranking
    from seqmlm_domains.kg.predictor import LinkPredictor
    from seqmlm_domains.kg.predictor_folder import data_folder_of_run

    folder = data_folder_of_run(run) if data is None else data
    predictor = LinkPredictor.load(
        run, device=device, backend=backend, normalise=normalise, end=end
    )
    report = predictor.evaluate(folder)
    if as_json:
        print(json.dumps(report.to_json(), ensure_ascii=False))
    else:
        print_ranking(report, title=str(folder), by_relation=by_relation)
