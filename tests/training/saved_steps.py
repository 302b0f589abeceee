"""Checkpoints of made-up steps, whose every value tells the step."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqmlm.training.checkpoint import Checkpoint, TrainingState, save

FILES = ["model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"]


def state_of(step: int) -> TrainingState:
    return TrainingState(
        step=step,
        epoch=step // 10,
        batch=step % 10,
        tokens=512 * step,
        seconds=0.1 * step,
        config={"model": {"layers": 2}, "training": {"steps": 100}},
        identity={"seed": 1, "vocabulary": "sha256:aa", "mask_rate": 0.15},
    )


def tensors_of(step: int, *, size: int = 40) -> dict[str, Tensor]:
    return {"a.weight": torch.full((size, 2), float(step)), "b": torch.tensor([step, -step])}


def save_step(folder: Path, step: int, *, size: int = 40) -> Path:
    optimizer = {f"tensor/exp_avg/{k}": v * 2 for k, v in tensors_of(step, size=size).items()}
    return save(folder, state_of(step), model=tensors_of(step, size=size), optimizer=optimizer)


def assert_is_step(loaded: Checkpoint | None, step: int, *, size: int = 40) -> None:
    """Every value is the one saved at this step."""
    assert loaded is not None
    assert loaded.state == state_of(step)
    expected = tensors_of(step, size=size)
    assert loaded.model.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(loaded.model[name], tensor)
        assert torch.equal(loaded.optimizer[f"tensor/exp_avg/{name}"], tensor * 2)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sign(manifest: dict[str, Any]) -> str:
    """The manifest with a right sha256 of itself, as its documentation defines it."""
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    text = json.dumps(content, sort_keys=True).encode()
    return json.dumps({**content, "sha256": hashlib.sha256(text).hexdigest()})
