"""Loads a model for what only proteins have."""

from __future__ import annotations

from pathlib import Path

from seqmlm.errors import ConfigError
from seqmlm.model.model import Model
from seqmlm.training.distributed import choose_device
from seqmlm_domains.protein.domain import ProteinDomain


def load_protein_model(run: Path, *, device: str = "auto", backend: str = "auto") -> Model:
    """Read the model of a run folder, or a model folder.

    Args:
        run: either.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        backend: of the kernels.

    Raises:
        CheckpointError: there is no model, or it is damaged.
        ConfigError: it is of another domain, or the device or backend cannot be used.
    """
    model = Model.load(run, device=choose_device(device), backend=backend)
    if not isinstance(model.domain, ProteinDomain):
        raise ConfigError(
            f"{run}: this model is of domain {model.domain.name!r}; one of 'protein' is needed."
        )
    return model
