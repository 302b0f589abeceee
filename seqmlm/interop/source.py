"""Reads a Hugging Face model folder: config.json and safetensors, in one file or several."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from seqmlm.errors import CheckpointError, ConfigError

CONFIG_FILE: Final = "config.json"
WEIGHTS_FILE: Final = "model.safetensors"
INDEX_FILE: Final = "model.safetensors.index.json"
PICKLED_FILES: Final = ("pytorch_model.bin", "pytorch_model.bin.index.json")

_OLD_ENDINGS = {".gamma": ".weight", ".beta": ".bias"}
"""Of norms in files of TensorFlow origin, and in what transformers 5 writes for ESM."""


@dataclass(frozen=True)
class HuggingFaceConfig:
    """The settings of a model as its ``config.json`` has them.

    Args:
        path: of the file, for messages.
        content: its values.
    """

    path: Path
    content: Mapping[str, Any]

    @property
    def model_type(self) -> str:
        """Name of the architecture, empty if the file does not say."""
        return str(self.get("model_type", ""))

    def get(self, name: str, default: Any) -> Any:
        """Return a setting; ``default`` if it is absent or null, as in transformers."""
        value = self.content.get(name)
        return default if value is None else value

    def number(self, name: str) -> int:
        """Return a size that must be given.

        Raises:
            CheckpointError: it is missing or no whole number above 0.
        """
        value = self.content.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(
                f"{self.path}: {name} is {value!r}; it must be a whole number above 0."
            )
        return value

    def require(self, name: str, expected: Any, *, default: Any) -> None:
        """Refuse a setting that the encoder has no option for.

        Raises:
            ConfigError: it is not ``expected``.
        """
        if (given := self.get(name, default)) != expected:
            raise ConfigError(
                f"{self.path}: {name} = {given!r}, but only {expected!r} can be imported as "
                f"{self.model_type}."
            )


def read_config(folder: Path) -> HuggingFaceConfig:
    """Return the settings of a model folder.

    Raises:
        CheckpointError: there is no such folder or file, or it is no JSON object.
        ConfigError: it is a model folder of seqmlm.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{folder}: no {CONFIG_FILE} here. Give the folder of a Hugging Face model: "
            f"{CONFIG_FILE}, {WEIGHTS_FILE} and the files of its tokenizer."
        )
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds {type(content).__name__} instead of an object.")
    if "format_version" in content and "vocabulary_fingerprint" in content:
        raise ConfigError(
            f"{folder} is a model of seqmlm itself: it needs no import. Use it as it is."
        )
    return HuggingFaceConfig(path, content)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return all tensors by name, floating ones as float32; one copy of them in memory.

    Norms that are called ``gamma`` and ``beta`` get their present names, as in transformers.

    Raises:
        CheckpointError: a file is missing or damaged, or a value is not finite.
    """
    tensors: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        try:
            loaded = load_file(path)
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error
        for name, tensor in loaded.items():
            if tensor.is_floating_point():
                tensor = tensor.float()
                if not bool(torch.isfinite(tensor).all()):
                    raise CheckpointError(f"{path}: {name} holds values that are not finite.")
            tensors[_present_name(name)] = tensor
    return tensors


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    index = folder / INDEX_FILE
    if not index.is_file():
        pickled = [name for name in PICKLED_FILES if (folder / name).is_file()]
        if pickled:
            raise CheckpointError(
                f"{folder / pickled[0]} is a pickle, which can run any program when it is read: "
                "only safetensors are. Save it anew with transformers: "
                "AutoModelForMaskedLM.from_pretrained(FOLDER).save_pretrained(OTHER)."
            )
        raise CheckpointError(f"{folder}: no {WEIGHTS_FILE} and no {INDEX_FILE} here.")
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} cannot be read: {error!r}") from error
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(f"{index} names {name!r}, which is not in {folder}.")
    return [folder / name for name in names]


def _present_name(name: str) -> str:
    for old, present in _OLD_ENDINGS.items():
        if name.endswith(old):
            return name.removesuffix(old) + present
    return name
