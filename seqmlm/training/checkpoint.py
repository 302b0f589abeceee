"""Checkpoints: a folder per step that is complete, verified and never overwritten.

``step-00001234/`` holds ``model.safetensors``, ``optimizer.safetensors``, ``state.json`` and
``MANIFEST.json``, which has size and sha256 of the other three and a sha256 of itself. Nothing in
it can run code. safetensors alone would load a flipped bit or a zero-filled file without a word.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqmlm.atomic_files import new_directory, remove_directory
from seqmlm.errors import CheckpointError

FORMAT_VERSION = 1
MAX_HEADER_BYTES = 1 << 20
MAX_TENSORS = 100_000
_MAX_JSON_BYTES = 16 << 20
_MODEL, _OPTIMIZER = "model.safetensors", "optimizer.safetensors"
_STATE, _MANIFEST = "state.json", "MANIFEST.json"
_FILES = (_MODEL, _OPTIMIZER, _STATE)
_FOLDER_NAME = re.compile(r"step-(\d{8,15})")
_STATE_TYPES: dict[str, tuple[type, ...]] = {
    "step": (int,),
    "epoch": (int,),
    "batch": (int,),
    "tokens": (int,),
    "seconds": (float, int),
    "config": (dict,),
    "identity": (dict,),
    "masking": (dict,),
    "selection": (dict,),
}
_logger = logging.getLogger("seqmlm")


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Where a run stands, and what must not change when it is resumed.

    Args:
        step: optimizer steps done.
        epoch: pass over the data that the last step was in, from 0.
        batch: batches of that epoch that were trained on.
        tokens: input tokens trained on since the start of the run.
        seconds: training time since the start of the run, over all its processes in turn.
        config: the resolved configuration; JSON types only.
        identity: what decides the numbers a run computes, see :func:`check_identity`.
        masking: what the masking policy of each objective has done since the start of the run:
            the numbers of a :class:`~seqmlm.masking.counts.MaskCounts`.
        selection: which evaluation was the best so far; see
            :class:`~seqmlm.training.selection.Selection`.
    """

    step: int
    epoch: int
    batch: int
    tokens: int
    seconds: float
    config: Mapping[str, Any]
    identity: Mapping[str, str | int | float]
    masking: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    selection: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def at_start(
        cls, config: Mapping[str, Any], identity: Mapping[str, str | int | float]
    ) -> TrainingState:
        """Return where a run stands before its first step."""
        return cls(
            step=0, epoch=0, batch=0, tokens=0, seconds=0.0, config=config, identity=identity
        )


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The verified content of a checkpoint; all tensors are on the CPU."""

    path: Path
    state: TrainingState
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]


class _NewerFormatError(CheckpointError):
    """An intact checkpoint of a later version: using an older one instead would lose work."""


def save(
    folder: Path,
    state: TrainingState,
    *,
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
) -> Path:
    """Write the checkpoint of ``state.step``; when this returns, it survives a power cut.

    Costs one copy to disk, one fsync and one sha256 (about 2 GB/s) of all tensors.

    Args:
        folder: the folder of all checkpoints of the run; must exist.
        model: every tensor once; of tied weights pass one name.
        optimizer: see :func:`seqmlm.training.restore.optimizer_tensors`.

    Returns:
        The new folder. A damaged one of the same step is replaced.

    Raises:
        CheckpointError: the disk fails or is full, tensors share memory, or an intact checkpoint
            of this step exists. Earlier checkpoints are as before.
    """
    target = folder / f"step-{state.step:08d}"
    if target.exists() and _rejection(target) is not None:
        remove_directory(target)
    needed_bytes = sum(tensor.nbytes for tensor in (*model.values(), *optimizer.values()))
    with new_directory(target, needed_bytes=needed_bytes) as temporary:
        _write_tensors(temporary / _MODEL, model)
        _write_tensors(temporary / _OPTIMIZER, optimizer)
        fields = {name: getattr(state, name) for name in _STATE_TYPES}
        (temporary / _STATE).write_text(json.dumps(fields, indent=2, default=dict))
        (temporary / _MANIFEST).write_text(_manifest(temporary))
    return target


def load_newest(folder: Path) -> Checkpoint | None:
    """Load the newest checkpoint that verifies, with a warning for each newer one that does not.

    Returns:
        None if there is no checkpoint at all.

    Raises:
        CheckpointError: there are checkpoints but none verifies, or one was written in a later
            format than this version reads.
    """
    rejections: list[tuple[Path, CheckpointError]] = []
    for path in _newest_first(folder):
        try:
            checkpoint = _load(path)
        except _NewerFormatError:
            raise
        except CheckpointError as error:
            rejections.append((path, error))
            continue
        for rejected, reason in rejections:
            _logger.warning(
                "checkpoint %s rejected: %s; using %s, %d steps are repeated",
                rejected.name,
                reason,
                path.name,
                _step(rejected) - _step(path),
            )
        return checkpoint
    if rejections:
        reasons = "; ".join(f"{path.name}: {reason}" for path, reason in rejections[:3])
        raise CheckpointError(
            f"None of the {len(rejections)} checkpoints in {folder} is intact ({reasons}). "
            "Restore one from a copy, or start a new run in another folder."
        )
    return None


def prune(folder: Path, *, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints that verify.

    Reads and hashes ``keep`` checkpoints. If the newest does not verify, nothing is deleted and a
    warning says why. A kill leaves a ``.trash-*`` folder, never a half-deleted checkpoint.

    Args:
        keep: at least 1.

    Raises:
        CheckpointError: a folder cannot be deleted.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}; it must be at least 1.")
    paths = _newest_first(folder)
    if paths and (reason := _rejection(paths[0])) is not None:
        _logger.warning("checkpoint %s does not verify, none is deleted: %s", paths[0].name, reason)
        return
    kept = 1
    for path in paths[1:]:
        if kept < keep and _rejection(path) is None:
            kept += 1
        else:
            remove_directory(path)


def _newest_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _FOLDER_NAME.fullmatch(path.name)]
    return sorted((path for path in found if path.is_dir()), key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    _refuse_shared_memory(path.name, tensors)
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    _check_header(path)


def _refuse_shared_memory(file_name: str, tensors: Mapping[str, Tensor]) -> None:
    owners: dict[tuple[object, int], list[tuple[int, int, str]]] = {}
    for name, tensor in tensors.items():
        if tensor.is_contiguous() and tensor.numel():
            storage = (tensor.device, tensor.untyped_storage().data_ptr())
            start = tensor.data_ptr()
            owners.setdefault(storage, []).append((start, start + tensor.nbytes, name))
    for spans in owners.values():
        spans.sort()
        for (_, end, first), (start, _, second) in pairwise(spans):
            if start < end:
                raise CheckpointError(
                    f"{file_name}: {first!r} and {second!r} share memory. Save tied weights under "
                    "one name and tie them again after loading."
                )


def _manifest(folder: Path) -> str:
    content: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "writer": f"seqmlm {version('seqmlm')}",
        "files": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": _file_sha256(folder / name)}
            for name in _FILES
        },
    }
    return json.dumps({**content, "sha256": _json_sha256(content)}, indent=2)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json_sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _load(path: Path) -> Checkpoint:
    _verify(path)
    try:
        model, optimizer = (load_file(path / name) for name in (_MODEL, _OPTIMIZER))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(str(error)) from error
    state = _read_state(path)
    return Checkpoint(path=path, state=state, model=model, optimizer=optimizer)


def _rejection(path: Path) -> CheckpointError | None:
    """Why a checkpoint cannot be used; None if it verifies or only a later version can read it."""
    try:
        _verify(path)
    except _NewerFormatError:
        return None
    except CheckpointError as error:
        return error
    return None


def _verify(path: Path) -> None:
    files = _read_manifest(path)
    for name, expected in files.items():
        try:
            size = (path / name).stat().st_size
            if size != expected["bytes"]:
                raise CheckpointError(f"{name}: {size:,} bytes instead of {expected['bytes']:,}")
            if _file_sha256(path / name) != expected.get("sha256"):
                raise CheckpointError(f"{name}: sha256 differs")
            if name != _STATE:
                _check_header(path / name)
        except FileNotFoundError as error:
            raise CheckpointError(f"{name}: missing") from error
        except OSError as error:
            raise CheckpointError(f"{name}: {error.strerror}") from error
    if _read_state(path).step != _step(path):
        raise CheckpointError(f"{_STATE}: its step is not that of the folder's name")


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of every file, once the manifest's own sha256 is right."""
    manifest = _read_json(path / _MANIFEST)
    if manifest.pop("sha256", None) != _json_sha256(manifest):
        raise CheckpointError(f"{_MANIFEST}: sha256 differs")
    written, writer = manifest.get("format"), manifest.get("writer")
    if isinstance(written, int) and written > FORMAT_VERSION:
        raise _NewerFormatError(
            f"{path} was written by {writer} in checkpoint format {written}; seqmlm "
            f"{version('seqmlm')} reads up to format {FORMAT_VERSION}. Upgrade seqmlm."
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or set(files) != set(_FILES):
        raise CheckpointError(f"{_MANIFEST}: must list exactly {', '.join(_FILES)}")
    for name, entry in files.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("bytes"), int):
            raise CheckpointError(f"{_MANIFEST}: {name} has no size")
    return files


def _read_state(path: Path) -> TrainingState:
    fields = _read_json(path / _STATE)
    for name in ("masking", "selection"):  # checkpoints of format 1 may lack them
        fields.setdefault(name, {})
    if fields.keys() != _STATE_TYPES.keys() or not all(
        isinstance(fields[name], types) for name, types in _STATE_TYPES.items()
    ):
        raise CheckpointError(f"{_STATE}: must hold exactly {', '.join(_STATE_TYPES)}")
    return TrainingState(**fields)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_JSON_BYTES + 1)
        if len(text) > _MAX_JSON_BYTES:
            raise CheckpointError(f"{path.name}: longer than {_MAX_JSON_BYTES:,} bytes")
        content = json.loads(text)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.name}: missing") from error
    except OSError as error:
        raise CheckpointError(f"{path.name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name}: not valid JSON") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name}: not a JSON object")
    return content


def _check_header(path: Path) -> None:
    """Bound what safetensors is asked to parse: its own limits allow minutes of work."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > MAX_HEADER_BYTES:
            raise CheckpointError(
                f"{path.name}: header of {header_bytes:,} bytes; at most {MAX_HEADER_BYTES:,}"
            )
        text = file.read(header_bytes)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name}: header is not valid JSON") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path.name}: header is not a JSON object")
    if len(header) > MAX_TENSORS:
        raise CheckpointError(f"{path.name}: {len(header):,} tensors; at most {MAX_TENSORS:,}")
