"""Counts the names of a project and fits the weights of its mixture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np

from seqmlm.data.report import ReadReport
from seqmlm.errors import DataError
from seqmlm.model.model import Model
from seqmlm.training.distributed import choose_device
from seqmlm_domains.code.completion.completer import Completer
from seqmlm_domains.code.completion.fitting import Sample, fit_mixture
from seqmlm_domains.code.completion.hidden_names import HiddenName, draw_hidden_names
from seqmlm_domains.code.completion.mixture import Sides
from seqmlm_domains.code.completion.project import Project, count_names, table_key
from seqmlm_domains.code.repository import find_source_files
from seqmlm_domains.code.source_file import Unusable, read_source
from seqmlm_domains.code.source_tokens import SourceTokens

_HELD_OUT_EVERY: Final = 10
_MAX_FILE_BYTES: Final = 1_000_000
_MAX_LINE_CHARACTERS: Final = 5_000


def fit_project(
    run: Path,
    data: Sequence[str | Path],
    *,
    held_out: Sequence[str | Path] | None,
    positions: int,
    seed: int,
    device: str = "cpu",
    backend: str = "auto",
) -> tuple[Path, dict[str, Any]]:
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

    Returns:
        Where it was written, and per language and case what was reached with and without each part.

    Raises:
        DataError: a source cannot be read, or there are too few files.
        CheckpointError: there is no model in the run, or it cannot be written to.
    """
    files = read_files(data)
    judged = files[::_HELD_OUT_EVERY] if held_out is None else read_files(held_out)
    texts = {tokens.text for tokens in judged}
    counted = [tokens for tokens in files if tokens.text not in texts]
    if not counted or not judged:
        raise DataError(
            f"{len(files)} source files are too few to fit on some and judge by others."
        )
    model = Model.load(run, device=choose_device(device), backend=backend)
    completer = Completer(model, Project(count_names(counted), {}, {}))
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
    return project.save(run), report


def _samples(completer: Completer, hidden: Sequence[HiddenName]) -> dict[Sides, Sample]:
    sides: tuple[Sides, ...] = get_args(Sides)
    return {side: Sample.of(completer, hidden, side) for side in sides}


def read_files(sources: Sequence[str | Path]) -> list[SourceTokens]:
    """Return the tokens of the source files of paths, folders and glob patterns, in order.

    Files that are no source text are passed over, as in training.
    """
    found = []
    for file in find_source_files(sources, ReadReport()):
        try:
            text = read_source(
                file.path,
                max_bytes=_MAX_FILE_BYTES,
                max_line_characters=_MAX_LINE_CHARACTERS,
            )
        except Unusable:
            continue
        found.append(SourceTokens.of(text, file.language))
    return found
