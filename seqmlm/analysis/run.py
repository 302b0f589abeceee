"""A trained run as an analysis sees it: the model, how it reads, and data it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seqmlm.config import RunConfig, read_config_file, validate
from seqmlm.data.prepare import open_store
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError
from seqmlm.evaluation.run import require_same_data
from seqmlm.inference.likelihood import scored_causally
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Direction, Row
from seqmlm.objectives.trained import causal_direction
from seqmlm.training.distributed import choose_device
from seqmlm.training.workload import split_of_run

LONGEST_WITHOUT_RUN = 512
"""Tokens per row where no run says how long its rows were."""


@dataclass(frozen=True)
class Corpus:
    """Records to draw encodings from.

    Args:
        domain: assembles them.
        store: holds their tokens.
        records: int64, those that may be drawn.
        max_length: tokens per row, special tokens included.
    """

    domain: Domain
    store: TokenStore
    records: npt.NDArray[np.int64]
    max_length: int

    def encoding(self, record: int, generator: np.random.Generator) -> Encoding:
        """Return one record; of a longer one, a window drawn from ``generator``."""
        return self.domain.assemble(
            self.store[record], max_length=self.max_length, generator=generator
        )


@dataclass(frozen=True)
class AnalysedRun:
    """A model with what its run folder says about it.

    Args:
        model: in evaluation mode.
        folder: that it was read from.
        config: of the run; None for a model folder.
    """

    model: Model
    folder: Path
    config: RunConfig | None = None

    @property
    def direction(self) -> Direction | None:
        """In which the model predicts; None if it fills in masks."""
        return causal_direction(self.model.trained_objectives)

    def row(self, encoding: Encoding) -> Row:
        """Return the row that the encoder reads, with the visibility of the run.

        In a causal run every predictable token is a target; else there are none.
        """
        if self.direction is None:
            return Row.of(encoding)
        row, _ = scored_causally(self.model, encoding, self.direction)
        return row

    def corpus(self, data: Sequence[str] = ()) -> Corpus:
        """Open data that the model was not trained on.

        Args:
            data: sources, all of which is used; the run's own held-out records if empty.

        Raises:
            ConfigError: without ``data``, the folder is no run, or the run held nothing out.
            DataError: the data cannot be read, or are not those that the run was trained on.
        """
        domain, config = self.model.domain, self.config
        max_length = LONGEST_WITHOUT_RUN if config is None else config.data.max_length
        if data:
            store = open_store(domain, data)
            return Corpus(domain, store, np.flatnonzero(store.lengths > 0), max_length)
        if config is None:
            raise ConfigError(
                f"{self.folder} is not a run folder: it has no config.toml to say what was held "
                "out. Give the run, or other data with --data."
            )
        store = open_store(domain, config.data.sources)
        split = split_of_run(config, domain, store)
        require_same_data(self.folder, store, split)
        if not len(split.validation):
            raise ConfigError(f"{self.folder} held nothing out; say what to use with --data.")
        return Corpus(domain, store, split.validation, max_length)


def open_run(folder: Path, *, device: str = "auto", backend: str = "auto") -> AnalysedRun:
    """Load the model of a run folder, or of a model folder.

    Args:
        folder: of either.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        backend: of the kernels.

    Raises:
        CheckpointError: there is no model, or it is damaged.
        ConfigError: the run's configuration, the device or the backend cannot be used.
    """
    model = Model.load(folder, device=choose_device(device), backend=backend)
    path = folder / "config.toml"
    if not path.is_file():
        return AnalysedRun(model, folder)
    return AnalysedRun(model, folder, validate(read_config_file(path)))
