"""seqmlm protein probe"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqmlm.cli.options import AsJson, Backend, Device, Run, TokensPerBatch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from seqmlm.model.model import Model
    from seqmlm_domains.protein.probes.task import Columns, ProbeTask

NAME = "probe"
EXAMPLES = """Examples:

seqmlm protein probe runs/protein --task localisation.csv

seqmlm protein probe runs/protein --task tape/secondary_structure --task tape/remote_homology

seqmlm protein probe runs/protein --task tape

A task is one table with the columns sequence and label (it is split by clusters, or by a column
split), or tables TASK.train.csv, TASK.valid.csv and TASK.test.csv, or a folder of such tables."""


def run(
    run: Run,
    task: Annotated[
        list[Path],
        typer.Option(help="CSV, TSV or JSON Lines; PATH of PATH.train.csv; folder. Repeatable."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for JSON and PNG; RUN/analysis if not given.", show_default=False
        ),
    ] = None,
    sequence_column: Annotated[
        str | None, typer.Option(help="Of the amino acids; else sequence, seq, ...")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="One label, or one character per residue; else label, ...")
    ] = None,
    max_train: Annotated[
        int, typer.Option(help="Training labels used; of more, proteins are drawn at random.")
    ] = 20_000,
    kmer: Annotated[int, typer.Option(help="Residues of the k-mers of that baseline.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn at random.")] = 0,
    device: Device = "auto",
    backend: Backend = "auto",
    tokens_per_batch: TokensPerBatch = 8192,
    as_json: AsJson = False,
) -> None:
    """Ask frozen embeddings for labels by a linear classifier, beside baselines without a model.

    In one table: the embeddings, those of the same encoder with random weights, k-mers or (for
    residues) what stands in a window of 15, the composition, and the most frequent label. Labels
    are of proteins, or of residues where a label has as many characters as its sequence. Intervals
    are of 95 %, from resampled test proteins.
    """  # fmt: skip
    import json

    from seqmlm.analysis.output import write_results
    from seqmlm.cli.reading import end_progress, show_progress
    from seqmlm_domains.protein.commands.probe_tables import print_probes
    from seqmlm_domains.protein.probes.probe import ProbeSettings, probe
    from seqmlm_domains.protein.probes.task import Columns
    from seqmlm_domains.protein.protein_model import load_protein_model

    settings = ProbeSettings(
        max_train=max_train, k=kmer, seed=seed, tokens_per_batch=tokens_per_batch
    )
    columns = Columns(sequence=sequence_column, label=label_column)
    model = load_protein_model(run, device=device, backend=backend)
    tasks = [found for path in task for found in _read(path, model, columns, seed=seed)]
    results = [
        probe(model, each, settings, on_progress=lambda doing: show_progress(f"{doing:60}"))
        for each in tasks
    ]
    end_progress()
    content = {"run": str(run), "tasks": [result.to_json() for result in results]}

    def draw() -> Mapping[str, Figure]:
        from seqmlm_domains.protein.probes.picture import draw_probes

        return {"protein_probe": draw_probes(results)}

    written = write_results(output or run / "analysis", "protein_probe", content, draw=draw)
    if as_json:
        print(json.dumps(content))
        return
    print_probes(results)
    for path in written:
        print(path)


def _read(path: Path, model: Model, columns: Columns, *, seed: int) -> list[ProbeTask]:
    """The tasks of a path; of a folder's, those that a probe cannot do are named and passed over.

    Raises:
        DataError: none is left.
    """
    import logging

    from seqmlm.errors import DataError
    from seqmlm_domains.protein.probes.task import NoClassesError, read_task
    from seqmlm_domains.protein.probes.task_files import find_tasks

    tasks = []
    for files in find_tasks(path):
        try:
            tasks.append(read_task(files, model.domain, columns=columns, seed=seed))
        except NoClassesError as error:
            if not path.is_dir():
                raise
            logging.getLogger("seqmlm").info("left out: %s", error)
    if not tasks:
        raise DataError(f"{path}: no task of the folder can be probed.")
    return tasks
