"""seqmlm embed"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from seqmlm.cli.options import Backend, Data, Device, Run, TokensPerBatch

NAME = "embed"
SUMMARY = "Write one vector per record, or per token, to a folder of safetensors files."
EXAMPLES = """Examples:

seqmlm embed runs/protein mine.fasta --output embeddings/mine

seqmlm embed runs/protein 'data/*.fasta.gz' --output tokens --pooling tokens --dtype float16

In Python: seqmlm.read_embeddings("embeddings/mine")["sp|P62593|BLAT_ECOLX"]"""


class Pooling(StrEnum):
    """How the vectors of a record's tokens become what is written."""

    mean = "mean"
    cls = "cls"
    tokens = "tokens"


class Storage(StrEnum):
    """Type of the numbers that are written."""

    float32 = "float32"
    float16 = "float16"


def run(
    run: Run,
    data: Data,
    output: Annotated[
        Path, typer.Option(help="The folder to write; new, or that of an interrupted job.")
    ],
    pooling: Annotated[
        Pooling, typer.Option(help="mean of the tokens, the first token, or all tokens.")
    ] = Pooling.mean,
    dtype: Annotated[
        Storage, typer.Option(help="Of what is written; float16 takes half the space.")
    ] = Storage.float32,
    shard_records: Annotated[
        int, typer.Option(min=1, help="Most records in one file; a kill costs one at most.")
    ] = 4096,
    device: Device = "auto",
    backend: Backend = "auto",
    tokens_per_batch: TokensPerBatch = 8192,
) -> None:
    """Write one vector per record, or per token, to a folder of safetensors files.

    An interrupted job goes on where it was when the same command is given again.
    """
    from seqmlm.cli.reading import end_progress, print_report, show_progress
    from seqmlm.inference.embedding_job import EmbeddingOptions, write_embeddings
    from seqmlm.model.model import Model
    from seqmlm.training.distributed import choose_device

    model = Model.load(run, device=choose_device(device), backend=backend)
    report = write_embeddings(
        model,
        data,
        output,
        options=EmbeddingOptions(
            pooling=pooling.value, dtype=dtype.value, shard_records=shard_records
        ),
        tokens_per_batch=tokens_per_batch,
        on_progress=lambda records: show_progress(f"{records:,} records embedded"),
    )
    end_progress()
    print_report(report)
    print(output)
