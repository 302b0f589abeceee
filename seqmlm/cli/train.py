"""seqmlm train"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from seqmlm.config import RunConfig
    from seqmlm.training.result import TrainingResult

NAME = "train"
SUMMARY = "Train a model and evaluate it on held-out data."
EXAMPLES = """Examples:

seqmlm train --domain protein

seqmlm train --domain protein --data proteins.fasta.gz --output runs/mine --steps 2000

seqmlm train --domain protein --data 'data/*.fasta' --set objectives.0.policy.rate=0.3

seqmlm train --domain protein --data family.fasta --init runs/protein --output runs/family

seqmlm train --resume --output runs/mine

torchrun --nproc-per-node 8 -m seqmlm train --domain protein --data proteins.fasta.gz"""


def run(
    domain: Annotated[
        str | None, typer.Option(help="What the sequences are; see `seqmlm domains`.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="File, folder, glob pattern, prepared store, or - for standard input; repeatable. "
            "Without it the domain's bundled sample is used."
        ),
    ] = None,
    config: Annotated[
        list[Path] | None, typer.Option(help="TOML file; repeatable, later ones win.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Run folder; runs/DOMAIN if not given.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting, dotted; repeatable."),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="training.init: run or model to start from; its shape becomes ours."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="training.steps")] = None,
    seed: Annotated[int | None, typer.Option(help="training.seed")] = None,
    device: Annotated[str | None, typer.Option(help="training.device")] = None,
    backend: Annotated[str | None, typer.Option(help="training.backend")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --output.")
    ] = False,
    allow_drift: Annotated[
        list[str] | None,
        typer.Option(help="With --resume: a part of the run that may have changed."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, train nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the final evaluation as JSON, null without one.")
    ] = False,
) -> None:
    """Train a model and evaluate it on held-out data.

    The last lines compare the model with what counting alone achieves on the same hidden tokens.
    Ctrl-C saves and stops; --resume goes on bit for bit.
    """
    import json

    from seqmlm.cli.run_settings import config_to_resume, overrides
    from seqmlm.config import configure
    from seqmlm.errors import ConfigError

    if resume and init is not None:
        raise ConfigError("--resume goes on with the weights of the run: leave out --init.")
    shortcuts = {
        "training.init": None if init is None else json.dumps(str(init)),
        "training.steps": steps,
        "training.seed": seed,
        "training.device": device,
        "training.backend": backend,
    }
    settings = configure(
        domain=domain,
        sources=data or [],
        files=config or [],
        overrides=overrides(shortcuts, setting),
        resumed=config_to_resume(output, resume=resume),
    )
    if dry_run:
        from seqmlm.training.rehearsal import rehearse

        for line in rehearse(settings):
            print(line)
        return
    folder = output or Path("runs") / settings.domain.name.rpartition(":")[2].lower()
    _train(settings, folder, resume=resume, allow_drift=allow_drift or [], as_json=as_json)


def _train(
    settings: RunConfig, folder: Path, *, resume: bool, allow_drift: list[str], as_json: bool
) -> None:
    import json
    import logging

    from seqmlm.cli.groups import command_for
    from seqmlm.cli.reading import progress_console
    from seqmlm.training.distributed import is_main_process
    from seqmlm.training.loop import train

    result = train(
        settings, folder, resume=resume, allow_drift=allow_drift, console=progress_console()
    )
    if not is_main_process():
        return
    if as_json:
        print(json.dumps(result.evaluation))
    else:
        _print_evaluation(result, domain=settings.domain.name)
    for path in result.plots:
        logging.getLogger("seqmlm").info("picture: %s", path)
    name = "embed" if result.report is None else "evaluate"
    command = command_for(settings.domain.name, name)
    logging.getLogger("seqmlm").info(
        "model: %s  (next: seqmlm %s %s)", result.folder / "model", command, result.folder
    )


def _print_evaluation(result: TrainingResult, *, domain: str) -> None:
    from seqmlm.cli.tables import print_evaluation
    from seqmlm.registry import DOMAINS

    if result.report is not None:
        print_evaluation(result.report, by_token=False)
    for name, scores in result.objectives.items():
        print(f"{name} on held-out records: {scores.describe()}")
    if result.measures:
        values = ", ".join(f"{name} {value:.3f}" for name, value in result.measures.items())
        print(f"{domain} on held-out records: {values}")
        if about := DOMAINS.load(domain).about_measures:
            print(f"  ({about})")
