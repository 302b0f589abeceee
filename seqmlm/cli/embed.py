"""seqmlm embed"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from seqmlm.cli.options import Backend, Data, Device, Run, TokensPerBatch

NAME = "embed"
SUMMARY = "Write one vector per record, or per token, to a safetensors file."
EXAMPLES = """Examples:

seqmlm embed runs/protein mine.fasta --output mine.safetensors

seqmlm embed runs/protein 'data/*.fasta.gz' --output tokens.safetensors --pooling tokens

In Python: seqmlm.read_embeddings("mine.safetensors")"""


class Pooling(StrEnum):
    """How the vectors of a record's tokens become what is written."""

    mean = "mean"
    cls = "cls"
    tokens = "tokens"


def run(
    run: Run,
    data: Data,
    output: Annotated[Path, typer.Option(help="The safetensors file to write; must not exist.")],
    pooling: Annotated[
        Pooling, typer.Option(help="mean of the tokens, the first token, or all tokens.")
    ] = Pooling.mean,
    device: Device = "auto",
    backend: Backend = "auto",
    tokens_per_batch: TokensPerBatch = 8192,
) -> None:
    """Write one vector per record, or per token, to one safetensors file.

    An interrupted job goes on where it was when the same command is given again.
    """
    from seqmlm.cli.reading import end_progress, print_report, show_progress
    from seqmlm.inference.embedding_file import write_embeddings
    from seqmlm.model.model import Model
    from seqmlm.training.distributed import choose_device

    model = Model.load(run, device=choose_device(device), backend=backend)
    report = write_embeddings(
        model,
        data,
        output,
        pooling=pooling.value,
        tokens_per_batch=tokens_per_batch,
        on_progress=lambda records: show_progress(f"{records:,} records embedded"),
    )
    end_progress()
    print_report(report)
    print(output)
