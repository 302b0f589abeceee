"""Writes a model as a Hugging Face folder, which transformers loads without code of ours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from seqmlm.atomic_files import new_directory
from seqmlm.errors import ConfigError
from seqmlm.interop.architecture import Architecture
from seqmlm.interop.importing import ARCHITECTURES
from seqmlm.interop.source import CONFIG_FILE, WEIGHTS_FILE
from seqmlm.model.model import Model
from seqmlm.objectives.trained import require_token_predictions


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        class_name: of the model in transformers.
        tensors: how many were written.
        left_out: names of the model's weights that a masked language model has no place for.
    """

    class_name: str
    tensors: int
    left_out: tuple[str, ...]

    def lines(self) -> list[str]:
        """Say in a few lines what was written and what was left out."""
        lines = [f"{self.class_name}: {self.tensors} tensors written"]
        if self.left_out:
            lines.append(f"left out: {', '.join(self.left_out)}")
        return lines


def architecture_of(model: Model) -> Architecture:
    """Return the architecture that computes exactly what the model computes.

    Raises:
        ConfigError: there is none; names the settings that lack for the closest one.
    """
    lacking = {
        architecture: [
            *architecture.unmet(model.encoder.config, head_transform=model.head_transform),
            *architecture.obstacles(model.encoder.config, model.vocabulary),
        ]
        for architecture in ARCHITECTURES
    }
    closest = min(lacking, key=lambda architecture: len(lacking[architecture]))
    if not lacking[closest]:
        return closest
    raise ConfigError(
        "No architecture of Hugging Face computes what this model computes. The closest is "
        f"{closest.class_name}; a model trained with these settings is one: "
        f"{'; '.join(lacking[closest])}. Complete configurations are in configs/."
    )


def export_model(model: Model, folder: Path) -> Exported:
    """Write ``config.json``, ``model.safetensors`` and the tokenizer to a new folder.

    The folder appears only when it is complete. Weights are float32.

    Args:
        model: its encoder and token head are written, and nothing else.
        folder: must not exist; its parent must.

    Raises:
        ConfigError: no architecture is equal to the model's, its domain has no such tokenizer, or
            the folder exists.
    """
    require_token_predictions(model.trained_objectives)
    architecture = architecture_of(model)
    encoder = model.encoder.config
    state = {name: value.detach().cpu().float() for name, value in model.exported_state().items()}
    tensors: dict[str, Tensor] = {}
    correspondences = architecture.correspondences(encoder)
    if model.pair_head is not None:
        correspondences += architecture.pair_head_correspondences()
    for entry in correspondences:
        tensors |= entry.to_theirs(state.pop(entry.ours))
    architecture.finish_tensors(encoder, tensors)
    content = {
        "architectures": [architecture.class_name],
        "model_type": architecture.model_type,
        "dtype": "float32",
        "pad_token_id": model.vocabulary.special.padding,
        "bos_token_id": model.vocabulary.special.start,
        "eos_token_id": model.vocabulary.special.end,
        **architecture.config_json(encoder, model.vocabulary),
    }
    with new_directory(folder, error=ConfigError) as temporary:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            temporary / WEIGHTS_FILE,
            metadata={"format": "pt"},
        )
        (temporary / CONFIG_FILE).write_text(json.dumps(content, indent=1) + "\n")
        model.domain.export_tokenizer(
            temporary, max_length=encoder.longest_sequence, has_segments=encoder.segments > 1
        )
    return Exported(architecture.class_name, len(tensors), tuple(sorted(state)))
