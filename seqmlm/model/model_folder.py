"""Where a saved model lies, and what its ``config.json`` says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from seqmlm.errors import CheckpointError
from seqmlm.model.configuration import EncoderConfig

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1

OBJECTIVES_FILE = "objectives.safetensors"
"""What the objectives trained for themselves, for a run that starts from the model."""


def find_model_folder(path: Path) -> Path:
    """Return the folder of the model in a run folder, or ``path`` if it is one itself.

    Raises:
        CheckpointError: there is none.
    """
    for folder in (path / "model", path):
        if (folder / "config.json").is_file():
            return folder
    is_run = (path / "checkpoints").is_dir()
    if is_run and (path / "config.toml").is_file():
        raise CheckpointError(
            f"{path} is a run that has not finished: it has no model yet. "
            f"Finish it with `seqmlm train --resume --output {path}`."
        )
    if is_run:
        raise CheckpointError(
            f"{path} is the folder of a run that was refused or stopped before its first step: it "
            "has no model. Start the run again with its whole command, in the same folder."
        )
    raise CheckpointError(
        f"{path}: no model here. Give a run folder, or a folder with config.json and "
        "model.safetensors."
    )


def read_model_config(folder: Path) -> Mapping[str, Any]:
    """Return the content of ``config.json``.

    Raises:
        CheckpointError: it is missing, damaged, incomplete or of a later format.
    """
    path = folder / "config.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        version = content["format_version"]
        required = ("domain", "encoder", "token_head", "vocabulary_fingerprint", "weights_sha256")
        missing = [key for key in required if key not in content]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not the config.json of a seqmlm model: {error!r}. One of Hugging Face "
            "becomes such a model by `seqmlm import-hf`."
        ) from error
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: written by seqmlm {content.get('seqmlm_version')} in format {version}; "
            f"this one reads up to {FORMAT_VERSION}."
        )
    if missing:
        raise CheckpointError(f"{path}: {', '.join(missing)} missing.")
    return content


def read_model_settings(folder: Path) -> dict[str, Any]:
    """Return the ``[model]`` settings of a saved model, for a run that starts from it.

    Dropout and what follows from domain and objectives are not among them.

    Raises:
        CheckpointError: there is no model in ``folder``, or its ``config.json`` is damaged.
    """
    content = read_model_config(find_model_folder(folder))
    settings = EncoderConfig.from_json(content["encoder"]).to_json()
    for name in ("vocabulary_size", "mask_token", "mask_token_rate", "dropout"):
        del settings[name]
    return settings | {"head_transform": content["token_head"]["transform"]}


def file_sha256(path: Path) -> str:
    """Return the checksum of a file as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Return the weights of a saved model by name.

    Raises:
        CheckpointError: the file is missing, damaged, or not the one with this checksum.
    """
    # Imports torch, which whoever only looks for a model need not wait for.
    from safetensors.torch import load_file

    try:
        if file_sha256(path) != sha256:
            raise CheckpointError(f"{path} is damaged: its sha256 is not the recorded one.")
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be loaded: {error}") from error
