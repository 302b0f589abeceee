"""Makes a model of a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqmlm.domain import Domain, build_domain
from seqmlm.errors import CheckpointError, ConfigError, suggestion
from seqmlm.interop.architecture import Architecture
from seqmlm.interop.bert import Bert, Roberta
from seqmlm.interop.esm import Esm
from seqmlm.interop.modernbert import ModernBert
from seqmlm.interop.source import HuggingFaceConfig, read_config, read_tensors
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.objectives.rows import TrainedObjective

ARCHITECTURES: tuple[Architecture, ...] = (Esm(), Bert(), Roberta(), ModernBert())

_NAMES_IN_MESSAGES = 5


@dataclass(frozen=True)
class Imported:
    """A model and what became of the folder it was made of.

    Args:
        model: on the CPU, in evaluation mode.
        architecture: ``model_type`` of the folder.
        tensors_used: how many of its tensors the model holds.
        left_out: names of tensors that the encoder has no use for.
        not_carried_over: settings that the encoder leaves out; they play no part in inference.
    """

    model: Model
    architecture: str
    tensors_used: int
    left_out: tuple[str, ...]
    not_carried_over: tuple[str, ...]

    def lines(self) -> list[str]:
        """Say in a few lines what was imported and what was left out."""
        encoder = self.model.encoder.config
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        lines = [
            f"{self.architecture}: {encoder.layers} layers, hidden size {encoder.hidden_size}, "
            f"{parameters:,} parameters, {len(self.model.vocabulary):,} tokens, domain "
            f"{self.model.domain.registered_name}",
            f"{self.tensors_used} tensors used"
            + (f", {len(self.left_out)} left out:" if self.left_out else ", none left out"),
            *(f"  {name}" for name in self.left_out),
        ]
        if self.not_carried_over:
            lines.append(f"not carried over: {', '.join(self.not_carried_over)}")
        return lines


def import_model(folder: Path, *, domain: str | None = None, backend: str = "auto") -> Imported:
    """Read a Hugging Face model folder: ESM-2, BERT, RoBERTa or ModernBERT.

    Args:
        folder: with ``config.json``, safetensors and the files of the tokenizer.
        domain: registered name of the domain that the model gets; by default protein for ESM and
            text for the others.
        backend: of the kernels.

    Raises:
        CheckpointError: a file or tensor is missing, damaged, unknown or of another shape.
        ConfigError: the architecture or one of its settings cannot be imported.
    """
    config = read_config(folder)
    architecture = _architecture(config)
    tensors = read_tensors(folder)
    options = dict(architecture.required) | architecture.options(config, tensors)
    head_transform = options.pop("head_transform")
    built = build_domain({"name": domain or architecture.domain})
    built.import_tokenizer(folder, rows=config.number("vocab_size"))
    _check_special_tokens(config, built)
    model = Model(
        built,
        EncoderConfig.from_json(
            options
            | {
                "vocabulary_size": len(built.vocabulary),
                "mask_token": built.vocabulary.special.mask,
            }
        ),
        head_transform=head_transform,
        has_pair_head=architecture.pair_head is not None
        and any(name.startswith(f"{architecture.pair_head}.") for name in tensors),
        trained_objectives=[TrainedObjective("mlm", None, None)],
        backend=backend,
    )
    architecture.prepare_tensors(config, tensors)
    used, left_out = _fill(model, architecture, tensors, folder)
    return Imported(
        model=model.eval(),
        architecture=architecture.model_type,
        tensors_used=used,
        left_out=left_out,
        not_carried_over=tuple(architecture.not_carried_over(config)),
    )


def _architecture(config: HuggingFaceConfig) -> Architecture:
    for architecture in ARCHITECTURES:
        if architecture.model_type == config.model_type:
            return architecture
    known = [architecture.model_type for architecture in ARCHITECTURES]
    raise ConfigError(
        f"{config.path}: model_type is {config.model_type!r}, which cannot be imported."
        f"{suggestion(config.model_type, known)} Supported: {', '.join(known)}."
    )


def _check_special_tokens(config: HuggingFaceConfig, domain: Domain) -> None:
    """The model and its tokenizer must mean the same ids."""
    special = domain.vocabulary.special
    for name, id in (("pad_token_id", special.padding), ("mask_token_id", special.mask)):
        given = config.get(name, id)
        if given != id:
            raise CheckpointError(
                f"{config.path}: {name} is {given}, but the tokenizer beside it has {id}."
            )


def _fill(
    model: Model, architecture: Architecture, tensors: dict[str, Tensor], folder: Path
) -> tuple[int, tuple[str, ...]]:
    """Give the model its weights; return the number of tensors used and the names left out."""
    correspondences = architecture.correspondences(model.encoder.config)
    if model.pair_head is not None:
        correspondences += architecture.pair_head_correspondences()
    used = {name for entry in correspondences for name in entry.theirs}
    _require_all(used, tensors, architecture, folder)
    tied = _take_tied(architecture, tensors, folder)
    left_out = [name for name in tensors if name not in used and architecture.is_left_out(name)]
    unknown = sorted(set(tensors) - used - set(left_out))
    if unknown:
        raise CheckpointError(
            f"{folder}: {_named(unknown)} unknown in {architecture.class_name}: nothing in this "
            "model corresponds. Was the model changed, or config.json?"
        )
    state = model.state_dict()
    with torch.no_grad():
        for entry in correspondences:
            theirs = [tensors[name] for name in entry.theirs]
            target = state.pop(entry.ours)
            expected = (target.shape[0] // len(theirs), *target.shape[1:])
            for name, tensor in zip(entry.theirs, theirs, strict=True):
                if not tensor.is_floating_point():
                    raise CheckpointError(
                        f"{folder}: {name} holds {str(tensor.dtype).removeprefix('torch.')}, not "
                        "floating-point numbers. Quantised weights cannot be imported."
                    )
                if tensor.shape != expected:
                    raise CheckpointError(
                        f"{folder}: {name} has the shape {tuple(tensor.shape)}; config.json "
                        f"makes it {expected}."
                    )
            target.copy_(entry.to_ours(tensors))
    assert not state, f"no tensor of the architecture corresponds to {sorted(state)}"
    return len(used) + tied, tuple(sorted(left_out))


def _require_all(
    names: Iterable[str], tensors: Mapping[str, Any], architecture: Architecture, folder: Path
) -> None:
    missing = sorted(set(names) - set(tensors))
    if not missing:
        return
    if not any(name.startswith(architecture.prefix) for name in tensors):
        raise CheckpointError(
            f"{folder}: no tensor begins with {architecture.prefix!r}: it is not a saved "
            f"{architecture.class_name}, perhaps an encoder without its token head."
        )
    raise CheckpointError(
        f"{folder}: {_named(missing)} missing, which {architecture.class_name} needs."
    )


def _take_tied(architecture: Architecture, tensors: dict[str, Tensor], folder: Path) -> int:
    """Take out the second copies of tied tensors; return how many there were."""
    copies = {architecture.decoder: architecture.embedding}
    second_bias = f"{architecture.decoder.removesuffix('weight')}bias"
    if second_bias != architecture.bias:
        copies[second_bias] = architecture.bias
    count = 0
    for copy, original in copies.items():
        if copy not in tensors:
            continue
        if not torch.equal(tensors.pop(copy), tensors[original]):
            raise CheckpointError(
                f"{folder}: {copy} is not equal to {original}; this encoder shares them."
            )
        count += 1
    return count


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_IN_MESSAGES])
    more = len(names) - _NAMES_IN_MESSAGES
    return f"{shown}{f' and {more} more' if more > 0 else ''} {'is' if len(names) == 1 else 'are'}"
