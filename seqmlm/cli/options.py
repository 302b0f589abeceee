"""Options that several commands share, so that they read and mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(help="A run folder, or a model folder.", show_default=False)]

Data = Annotated[
    list[str],
    typer.Argument(help="Files, folders, glob patterns, or - for standard input."),
]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]

Backend = Annotated[str, typer.Option(help="Of the kernels: auto, reference, torch or triton.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]

TokensPerBatch = Annotated[
    int, typer.Option(min=1, help="Bounds the memory; results do not depend on it.")
]

Temperature = Annotated[
    float, typer.Option(min=0.0, help="Of drawing tokens; 0 takes the most probable one.")
]

Samples = Annotated[int, typer.Option(min=1, help="How many to draw.")]

Seed = Annotated[int, typer.Option(min=0, help="The same seed draws the same samples.")]
