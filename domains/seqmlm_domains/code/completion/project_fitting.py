"""Counts the names of a project and fits the weights of its mixture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np

from seqmlm.data.report import ReadReport
from seqmlm.errors import DataError
from seqmlm.model.model import Model
from seqmlm.training.distributed import choose_device
from seqmlm_domains.code.completion.completer import Completer, require_code_domain
from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.completion.fitting import Sample, fit_mixture
from seqmlm_domains.code.completion.fitting_progress import (
    FittingProgress,
    OnProgress,
    tell_nobody,
)
from seqmlm_domains.code.completion.hidden_names import HiddenName, draw_hidden_names
from seqmlm_domains.code.completion.mixture import Mixture, Sides
from seqmlm_domains.code.completion.project import (
    Project,
    count_names,
    read_trained_length,
    table_key,
)
from seqmlm_domains.code.completion.type_stage import TypeStage
from seqmlm_domains.code.domain import CodeDomain
from seqmlm_domains.code.repository import find_source_files, printable
from seqmlm_domains.code.source_file import Unusable, read_source
from seqmlm_domains.code.source_tokens import SourceTokens

_HELD_OUT_EVERY: Final = 10


@dataclass(frozen=True, slots=True)
class FittedProject:
    """What fitting wrote, and from what.

    Args:
        folder: where it was written.
        report: per language and case what was reached with and without each part.
        files: what was read; files that are no source text were passed over, as in training.
        without_weights: languages whose held-out files hold too few names for weights of their own;
            they are completed with those of another one.
    """

    folder: Path
    report: Mapping[str, Any]
    files: ReadReport
    without_weights: tuple[str, ...]


def fit_project(
    run: Path,
    data: Sequence[str | Path],
    *,
    held_out: Sequence[str | Path] | None,
    positions: int,
    seed: int,
    device: str = "cpu",
    backend: str = "auto",
    on_progress: OnProgress = tell_nobody,
) -> FittedProject:
    """Fit completion to a project and write it into the run.

    Args:
        run: a run folder of domain ``code``.
        data: the project: files, folders or glob patterns.
        held_out: files for the weights, which are not counted while these are fitted; every tenth
            file of the project if absent. All files are counted in the end.
        positions: names to hide in them, for each language.
        seed: of the choice of names.
        device: of the model.
        backend: of the kernels.
        on_progress: told how far it is.

    Raises:
        DataError: a source cannot be read, or there are too few files.
        CheckpointError: there is no model in the run, or it cannot be written to.
    """
    model = Model.load(run, device=choose_device(device), backend=backend)
    domain = require_code_domain(model)
    read = ReadReport()
    files = read_files(data, domain, read, on_progress=on_progress)
    if held_out is None:
        judged = dict(list(files.items())[::_HELD_OUT_EVERY])
    else:
        judged = read_files(held_out, domain, read, on_progress=on_progress)
    texts = {tokens.text for tokens in judged}
    counted = [tokens for tokens in files if tokens.text not in texts]
    places = {**files, **judged}

    def drop(tokens: SourceTokens, reason: str) -> None:
        read.drop(reason, places.pop(tokens))

    if not counted or not judged:
        raise DataError(
            f"{len(files)} source files are too few to fit on some and judge by others "
            f"({read.summary()})."
        )
    tables = _count(counted, places, "counting names", on_progress, drop)
    completer = Completer(
        model,
        Project(tables, {}, {}),
        trained_length=read_trained_length(Path(run)),
        type_stage=TypeStage.load(Path(run), model),
    )
    mixtures, report = _weigh(
        completer, list(judged), positions=positions, seed=seed, on_progress=on_progress
    )
    if not mixtures:
        raise DataError("The held-out files hold too few names: give at least two with names.")
    counted = [tokens for tokens in (*counted, *judged) if tokens in places]
    tables = _count(counted, places, "counting names, held-out files too", on_progress, drop)
    project = Project(tables, mixtures, report)
    return FittedProject(
        project.save(run), report, read, tuple(key for key in project.tables if key not in mixtures)
    )


def _weigh(
    completer: Completer,
    judged: Sequence[SourceTokens],
    *,
    positions: int,
    seed: int,
    on_progress: OnProgress,
) -> tuple[dict[str, Mixture], dict[str, Any]]:
    """The weights and their report, of each language of which there are enough files."""
    mixtures, report = {}, {}
    for key in dict.fromkeys(table_key(tokens.language) for tokens in judged):
        own = [tokens for tokens in judged if table_key(tokens.language) == key]
        hidden = draw_hidden_names(own, positions, generator=np.random.default_rng(seed))
        of_language = partial(_tell, on_progress, key)
        samples = _samples(completer, hidden, on_progress=of_language)
        if all(len(set(sample.files.tolist())) > 1 for sample in samples.values()):
            mixtures[key], report[key] = fit_mixture(samples, on_progress=of_language)
    return mixtures, report


def _samples(
    completer: Completer, hidden: Sequence[HiddenName], *, on_progress: OnProgress
) -> dict[Sides, Sample]:
    sides: tuple[Sides, ...] = get_args(Sides)
    return {side: Sample.of(completer, hidden, side, on_progress=on_progress) for side in sides}


def _count(
    files: Sequence[SourceTokens],
    places: Mapping[SourceTokens, str],
    phase: str,
    on_progress: OnProgress,
    on_failed: Callable[[SourceTokens, str], None],
) -> dict[str, ContextTable]:
    def tell(done: int) -> None:
        on_progress(FittingProgress(phase, done, len(files), "files"))

    tell(0)
    return count_names(files, places=places, on_parsed=tell, on_failed=on_failed)


def _tell(on_progress: OnProgress, language: str, progress: FittingProgress) -> None:
    on_progress(replace(progress, phase=f"{language}, {progress.phase}"))


def read_files(
    sources: Sequence[str | Path],
    domain: CodeDomain,
    report: ReadReport,
    *,
    on_progress: OnProgress = tell_nobody,
) -> dict[SourceTokens, str]:
    """Return the tokens of source files, in order, and where each was read.

    Args:
        sources: paths, folders and glob patterns.
        domain: tells how large a file and how long a line may be.
        report: counts files; those that are no source text are passed over, as in training.
        on_progress: told how many are read.
    """
    found = {}
    files = list(find_source_files(sources, report))
    for number, file in enumerate(files):
        on_progress(FittingProgress("reading", number, len(files), "files"))
        report.read += 1
        try:
            text = read_source(
                file.path,
                max_bytes=domain.options["max_file_bytes"],
                max_line_characters=domain.options["max_line_characters"],
            )
        except Unusable as error:
            report.drop(error.reason, printable(error.place))
            continue
        found[SourceTokens.of(text, file.language)] = file.name
    on_progress(FittingProgress("reading", len(files), len(files), "files"))
    return found
