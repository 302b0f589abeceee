"""seqmlm kg add-entity"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmlm_domains.kg.commands.options import GraphRun

NAME = "add-entity"
EXAMPLES = """Examples:

seqmlm kg add-entity runs/umls zika_virus --name "zika virus" --output runs/umls-zika

seqmlm kg predict runs/umls-zika --head zika_virus --relation causes"""


def run(
    run: GraphRun,
    entity: Annotated[str, typer.Argument(help="Its identifier.", show_default=False)],
    output: Annotated[Path, typer.Option(help="Folder that gets the predictor with the entity.")],
    name: Annotated[str, typer.Option(help="As people say it; else from the identifier.")] = "",
    description: Annotated[str, typer.Option(help="In words.")] = "",
) -> None:
    """Make an entity known by its name, without training.

    The scores of all others stay as they are to the last bit. Models whose entities are tokens of
    their own alone (domain.entities = 'id') cannot read a name.
    """
    from seqmlm_domains.kg.predictor import LinkPredictor

    predictor = LinkPredictor.load(run)
    predictor.add_entity(entity, name=name, description=description)
    predictor.save(output)
    print(f"{output}: {len(predictor.entities):,} entities")
