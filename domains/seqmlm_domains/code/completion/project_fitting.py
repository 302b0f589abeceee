"""Counts the names of a project and fits the weights of its mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np

from seqmlm.data.report import ReadReport
from seqmlm.errors import DataError
from seqmlm.model.model import Model
from seqmlm.training.distributed import choose_device
from seqmlm_domains.code.completion.completer import Completer, require_code_domain
from seqmlm_domains.code.completion.fitting import Sample, fit_mixture
from seqmlm_domains.code.completion.hidden_names import HiddenName, draw_hidden_names
from seqmlm_domains.code.completion.mixture import Sides
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

    Raises:
        DataError: a source cannot be read, or there are too few files.
        CheckpointError: there is no model in the run, or it cannot be written to.
    """
    model = Model.load(run, device=choose_device(device), backend=backend)
    domain = require_code_domain(model)
    read = ReadReport()
    files = read_files(data, domain, read)
    judged = files[::_HELD_OUT_EVERY] if held_out is None else read_files(held_out, domain, read)
    texts = {tokens.text for tokens in judged}
    counted = [tokens for tokens in files if tokens.text not in texts]
    if not counted or not judged:
        raise DataError(
            f"{len(files)} source files are too few to fit on some and judge by others "
            f"({read.summary()})."
        )
    project = Project(count_names(counted), {}, {})
    completer = Completer(
        model,
        project,
        trained_length=read_trained_length(Path(run)),
        type_stage=TypeStage.load(Path(run), model),
    )
    mixtures, report = {}, {}
    for key in dict.fromkeys(table_key(tokens.language) for tokens in judged):
        own = [tokens for tokens in judged if table_key(tokens.language) == key]
        hidden = draw_hidden_names(own, positions, generator=np.random.default_rng(seed))
        samples = _samples(completer, hidden)
        if all(len(set(sample.files.tolist())) > 1 for sample in samples.values()):
            mixtures[key], report[key] = fit_mixture(samples)
    if not mixtures:
        raise DataError("The held-out files hold too few names: give at least two with names.")
    project = Project(count_names([*counted, *judged]), mixtures, report)
    return FittedProject(
        project.save(run), report, read, tuple(key for key in project.tables if key not in mixtures)
    )


def _samples(completer: Completer, hidden: Sequence[HiddenName]) -> dict[Sides, Sample]:
    sides: tuple[Sides, ...] = get_args(Sides)
    return {side: Sample.of(completer, hidden, side) for side in sides}


def read_files(
    sources: Sequence[str | Path], domain: CodeDomain, report: ReadReport
) -> list[SourceTokens]:
    """Return the tokens of the source files of paths, folders and glob patterns, in order.

    Args:
        sources: what to read.
        domain: tells how large a file and how long a line may be.
        report: counts files; those that are no source text are passed over, as in training.
    """
    found = []
    for file in find_source_files(sources, report):
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
        found.append(SourceTokens.of(text, file.language))
    return found
