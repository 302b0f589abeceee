"""seqmlm finetune"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqmlm.cli.options import AsJson, Run

if TYPE_CHECKING:
    from seqmlm.finetuning.loop import FineTuningResult

NAME = "finetune"
SUMMARY = "Train a labelled task on a trained model."
EXAMPLES = """Examples:

seqmlm finetune runs/text --task classification --data train.csv --column label=category

seqmlm finetune runs/text --task tokens --data train.conll --validation dev.conll --test test.conll

seqmlm finetune runs/text --task qa --data train.json --set task.metric=cmrc2018

seqmlm finetune runs/protein --task regression --data fitness.csv --from-scratch"""


def run(
    run: Run,
    task: Annotated[
        str | None,
        typer.Option(help="classification, pairs, tokens, qa, regression or ranking."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Labelled file: CSV, TSV, JSON Lines; CoNLL; SQuAD's JSON.")
    ] = None,
    validation: Annotated[
        str | None, typer.Option(help="To choose the best epoch; else a tenth is held out.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="To be predicted at the end.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=NAME", help="Column of text, label, value, ...; repeatable."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Run folder; RUN-TASK if not given.")] = None,
    config: Annotated[
        list[Path] | None, typer.Option(help="TOML file; repeatable, later ones win.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting, dotted; repeatable."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="training.epochs")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="optimizer.learning_rate")] = None,
    freeze: Annotated[
        int | None, typer.Option(help="training.frozen_layers, the embeddings included.")
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Random weights: the baseline.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="training.seed")] = None,
    device: Annotated[str | None, typer.Option(help="training.device")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --output.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a labelled task on a trained model, and predict what was held out.

    The output folder holds the model of the best epoch, predictions for every held-out line,
    measures with bootstrap intervals, and pictures. `seqmlm predict` uses it.
    """
    from seqmlm.cli.reading import progress_console
    from seqmlm.cli.run_settings import config_to_resume, overrides
    from seqmlm.finetuning.loop import finetune
    from seqmlm.finetuning.settings import configure_finetuning
    from seqmlm.training.distributed import is_main_process

    shortcuts = {
        "training.epochs": epochs,
        "optimizer.learning_rate": learning_rate,
        "training.frozen_layers": freeze,
        "training.seed": seed,
        "training.device": device,
        "training.from_scratch": "true" if from_scratch else None,
    }
    files = {"train": data, "validation": validation, "test": test}
    settings = configure_finetuning(
        run,
        task=task,
        data={name: file for name, file in files.items() if file is not None},
        columns=_roles(column or []),
        files=config or [],
        overrides=overrides(shortcuts, setting),
        resumed=config_to_resume(output, resume=resume),
    )
    folder = output or run.with_name(f"{run.name}-{settings.task.name}")
    result = finetune(settings, folder, resume=resume, console=progress_console())
    if is_main_process():
        _print_result(result, folder, as_json=as_json)


def _print_result(result: FineTuningResult, folder: Path, *, as_json: bool) -> None:
    import json
    import logging

    from seqmlm.cli.finetuning_tables import print_evaluations

    if as_json:
        evaluations = {name: found.to_json() for name, found in result.evaluations.items()}
        print(json.dumps({"best_epoch": result.best_epoch, **evaluations}))
    else:
        print_evaluations(result.evaluations, best_epoch=result.best_epoch)
    for path in result.plots:
        logging.getLogger("seqmlm").info("picture: %s", path)
    logging.getLogger("seqmlm").info(
        "model: %s  (next: seqmlm predict %s FILE --output predictions.csv)",
        folder / "model", folder,
    )  # fmt: skip


def _roles(assignments: list[str]) -> dict[str, str]:
    """Columns by role, from ROLE=NAME."""
    from seqmlm.errors import ConfigError

    roles = {}
    for assignment in assignments:
        role, separator, name = assignment.partition("=")
        if not separator or not role or not name:
            raise ConfigError(
                f"--column {assignment}: write it as ROLE=NAME, such as label=intent."
            )
        roles[role.strip()] = name
    return roles
