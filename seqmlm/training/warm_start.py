"""Starts a run from the weights of another model, of the same shape but perhaps other tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from seqmlm.errors import ConfigError
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.model.model_folder import (
    OBJECTIVES_FILE,
    find_model_folder,
    read_model_config,
    read_weights,
)
from seqmlm.vocabulary import Vocabulary

SAME_IN_BOTH: Final = (
    *("layers", "hidden_size", "heads", "key_value_heads", "feed_forward_size", "activation"),
    *("normalisation", "normalisation_placement", "embedding_normalisation"),
    *("first_attention_normalisation", "biases", "positions", "position_offset"),
)
"""Options of the encoder without which its weights mean something else."""

_BY_TOKEN = ("encoder.token_embedding.weight", "token_head.bias")
_BY_TYPE = (".type_embedding.weight", ".type_bias")
"""Ends of the names of weights with a row for each declared type."""

_TABLES = (
    "encoder.position_embedding.weight",
    "encoder.segment_embedding.weight",
    "encoder.role_embedding.weight",
)


@dataclass(frozen=True)
class WarmStart:
    """What a model got from another one.

    Args:
        source: folder of the other model.
        weights_sha256: of its weights.
        source_domain: registered name of its domain.
        matched_tokens: tokens of this model that the other one has too, special ones included;
            their rows of the embedding and of the token head were copied.
        new_tokens: tokens of this model that keep their fresh rows.
        unused_tokens: tokens of the other model that this one does not have.
        fresh: weights that the other model has no counterpart of, or only some rows.
        left_out: weights of the other model that this one has no place for.
    """

    source: str
    weights_sha256: str
    source_domain: str
    matched_tokens: int
    new_tokens: int
    unused_tokens: int
    fresh: tuple[str, ...]
    left_out: tuple[str, ...]

    def lines(self) -> list[str]:
        """Say in a few lines what was taken over."""
        lines = [
            f"warm start from {self.source} (domain {self.source_domain}): "
            f"{self.matched_tokens:,} tokens matched, {self.new_tokens:,} new, "
            f"{self.unused_tokens:,} of the other vocabulary not used"
        ]
        for what, names in (("freshly initialised", self.fresh), ("not used", self.left_out)):
            if names:
                lines.append(f"  {what}: {', '.join(names)}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@torch.no_grad()
def warm_start(model: Model, source: str) -> WarmStart:
    """Copy what another model has learned; the rest of ``model`` stays as it was initialised.

    Rows of the token embedding and of the head's bias go by token: special tokens by the part they
    play, others by their text; those of declared types by name. Tables of positions, segments and
    roles keep the rows they share. What an objective of the same label trained for itself is copied
    too.

    Args:
        model: untrained; changed in place.
        source: a run or model folder.

    Raises:
        CheckpointError: there is no model, or it is damaged.
        ConfigError: it has another shape.
    """
    folder = find_model_folder(Path(source))
    content = read_model_config(folder)
    _require_same_shape(EncoderConfig.from_json(content["encoder"]), model.encoder.config, source)
    theirs = _weights_of(folder, content)
    vocabulary = Vocabulary.from_json(content["vocabulary"])
    ours, matching = match_tokens(model.vocabulary, vocabulary)
    fresh: list[str] = []
    taken: set[str] = set()
    for name, target in model.state_dict().items():
        is_of_objective = name.startswith("objective_modules.") and not name.endswith(_BY_TYPE)
        if name not in theirs or (is_of_objective and theirs[name].shape != target.shape):
            fresh.append(name)
            continue
        taken.add(name)
        if name in _BY_TOKEN:
            target[ours] = theirs[name][matching].to(target.dtype)
        elif name.endswith(_BY_TYPE):
            names = content.get("declared_types", [])
            known = _match_types(model.domain.declared_types, names)
            target[list(known)] = theirs[name][list(known.values())].to(target.dtype)
        elif name in _TABLES:
            rows = min(len(target), len(theirs[name]))
            target[:rows] = theirs[name][:rows]
            if rows < len(target):
                fresh.append(f"{name}[{rows}:]")
        else:
            _copy(target, theirs[name], name, source)
    return WarmStart(
        source=str(folder.resolve()),
        weights_sha256=content["weights_sha256"],
        source_domain=content["domain"]["name"],
        matched_tokens=len(ours),
        new_tokens=len(model.vocabulary) - len(ours),
        unused_tokens=len(vocabulary) - len(ours),
        fresh=tuple(fresh),
        left_out=tuple(sorted(set(theirs) - taken)),
    )


def _weights_of(folder: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of a model, with those of its objectives where they were saved."""
    weights = read_weights(folder / "model.safetensors", content["weights_sha256"])
    if "objectives_sha256" in content:
        weights |= read_weights(folder / OBJECTIVES_FILE, content["objectives_sha256"])
    return weights


def _match_types(ours: Sequence[str], theirs: Sequence[str]) -> dict[int, int]:
    """Numbers of the types of the same name, ours to theirs."""
    number_of = {name: number for number, name in enumerate(theirs)}
    return {number: number_of[name] for number, name in enumerate(ours) if name in number_of}


def match_tokens(ours: Vocabulary, theirs: Vocabulary) -> tuple[Tensor, Tensor]:
    """Return the ids of the tokens that two vocabularies share, int64 ``[shared]`` in each."""
    special = asdict(ours.special), asdict(theirs.special)
    pairs = {id: special[1][role] for role, id in special[0].items()}
    special_ids = set(special[1].values())
    for id, token in enumerate(ours.tokens):
        if id not in pairs and token in theirs and theirs.id_of(token) not in special_ids:
            pairs[id] = theirs.id_of(token)
    return torch.tensor(list(pairs), dtype=torch.int64), torch.tensor(
        list(pairs.values()), dtype=torch.int64
    )


def _require_same_shape(theirs: EncoderConfig, ours: EncoderConfig, source: str) -> None:
    different = [
        f"model.{name} = {getattr(ours, name)!r} (there {getattr(theirs, name)!r})"
        for name in SAME_IN_BOTH
        if getattr(ours, name) != getattr(theirs, name)
    ]
    if different:
        raise ConfigError(
            f"training.init = {source!r}: a model of another shape: {'; '.join(different)}. Leave "
            "these settings out to get those of that model, or start without it."
        )


def _copy(target: Tensor, value: Tensor, name: str, source: str) -> None:
    if target.shape != value.shape:
        raise ConfigError(
            f"training.init = {source!r}: {name} has the shape {tuple(value.shape)} there, and "
            f"{tuple(target.shape)} in this model."
        )
    target.copy_(value)
