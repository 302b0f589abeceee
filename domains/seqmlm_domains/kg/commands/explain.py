"""seqmlm kg explain"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from seqmlm.cli.options import AsJson, Backend, Device
from seqmlm_domains.kg.commands.options import End, GraphRun, Normalise

NAME = "explain"
EXAMPLES = """Examples:

seqmlm kg explain runs/nations --head brazil --relation embassy --tail usa

seqmlm kg explain runs/nations --head brazil --relation embassy --tail usa --missing head --json"""


def run(
    run: GraphRun,
    head: Annotated[str, typer.Option(help="Identifier of an entity.")],
    relation: Annotated[str, typer.Option(help="Identifier of a relation.")],
    tail: Annotated[str, typer.Option(help="Identifier of an entity.")],
    missing: Annotated[
        Literal["head", "tail"], typer.Option(help="Whose score is explained.")
    ] = "tail",
    normalise: Normalise = None,
    end: End = None,
    device: Device = "auto",
    backend: Backend = "auto",
    as_json: AsJson = False,
) -> None:
    """Take the score of a triple's head or tail apart.

    The tokens of the entity with their log-likelihoods, which add up to the score, and how much
    less the score is without each part of the query.
    """
    import json
    from dataclasses import asdict

    from seqmlm_domains.kg.commands.link_tables import print_explanation
    from seqmlm_domains.kg.predictor import LinkPredictor

    predictor = LinkPredictor.load(
        run, device=device, backend=backend, normalise=normalise, end=end
    )
    explanation = predictor.explain(head, relation, tail, missing=missing)
    if as_json:
        print(json.dumps(asdict(explanation), ensure_ascii=False))
    else:
        print_explanation(explanation, title=f"{missing} of ({head}, {relation}, {tail})")
