"""Options that several commands on graphs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

GraphRun = Annotated[
    Path, typer.Argument(help="A run of domain kg, or a saved predictor.", show_default=False)
]

Normalise = Annotated[
    Literal["mean", "sum", "pmi"] | None,
    typer.Option(
        help="How token likelihoods make a score; as trained if not given.",
        show_default=False,
    ),
]

End = Annotated[
    Literal["ignore", "eos", "pad"] | None,
    typer.Option(
        help="What is scored after a name; as trained if not given.",
        show_default=False,
    ),
]
