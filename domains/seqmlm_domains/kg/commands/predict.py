"""seqmlm kg predict"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmlm.cli.options import AsJson, Backend, Device
from seqmlm_domains.kg.commands.options import End, GraphRun, Normalise

NAME = "predict"
EXAMPLES = """Examples:

seqmlm kg predict runs/nations --head brazil --relation embassy --top-k 5

seqmlm kg predict runs/nations --relation embassy --tail usa --filtered

seqmlm kg predict runs/nations --head brazil --relation embassy --candidate usa --json"""


def run(
    run: GraphRun,
    head: Annotated[str | None, typer.Option(help="Identifier of an entity.")] = None,
    relation: Annotated[str | None, typer.Option(help="Identifier of a relation.")] = None,
    tail: Annotated[str | None, typer.Option(help="Identifier of an entity.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Answers to print.")] = 10,
    filtered: Annotated[
        bool, typer.Option("--filtered", help="Leave out what the training data states.")
    ] = False,
    candidate: Annotated[
        list[str] | None, typer.Option(help="Choose from these identifiers only; repeatable.")
    ] = None,
    types: Annotated[
        Path | None,
        typer.Option(help="JSON, or lines of entity TAB type, for --type.", show_default=False),
    ] = None,
    of_type: Annotated[
        str | None,
        typer.Option("--type", help="Choose from the entities of this type only."),
    ] = None,
    abstain_below: Annotated[
        float, typer.Option(min=0, max=1, help="No answer if the best is less probable.")
    ] = 0.0,
    normalise: Normalise = None,
    end: End = None,
    device: Device = "auto",
    backend: Backend = "auto",
    as_json: AsJson = False,
) -> None:
    """Answer what is missing: give two of --head, --relation and --tail.

    Scores are mean log-likelihoods in nats; probabilities are among all candidates, calibrated on
    the validation triples.
    """
    import json
    from dataclasses import asdict

    from seqmlm.errors import ConfigError
    from seqmlm_domains.kg.commands.link_tables import print_predictions
    from seqmlm_domains.kg.entity_types import read_entity_types
    from seqmlm_domains.kg.predictor import LinkPredictor

    query = (head, relation, tail)
    if query.count(None) != 1:
        raise ConfigError(
            "Give two of --head, --relation and --tail: the one that is left out is predicted."
        )
    predictor = LinkPredictor.load(
        run, device=device, backend=backend, normalise=normalise, end=end
    )
    if types is not None:
        predictor.set_entity_types(read_entity_types(types))
    (found,) = predictor.predict_many(
        [query],
        top_k=top_k,
        filtered=filtered,
        candidates=candidate,
        candidate_type=of_type,
        abstain_below=abstain_below,
    )
    if as_json:
        print(json.dumps([asdict(item) for item in found], ensure_ascii=False))
    else:
        print_predictions(
            found,
            query=query,
            calibration=predictor.calibration,
            is_calibrated=filtered and not candidate and of_type is None,
        )
