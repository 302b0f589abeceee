"""Launches measured on this machine, one small file each, so that a device is tuned only once.

Opt-in: ``SEQMLM_AUTOTUNE=1`` makes the first call of a kind of kernel measure its candidates on a
made-up batch, never on the call's own, so that the choice does not depend on what came first. The
files lie in ``SEQMLM_KERNEL_CACHE``, or ``~/.cache/seqmlm_kernels``. Another launch may round
differently: results are bit-equal from run to run for as long as the files stay.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

from seqmlm_kernels.triton.launch import AttentionLaunch, LaunchKey
from seqmlm_kernels.triton.projection_tiles import ProjectionTiles, Tiles, TilesKey

Launch = TypeVar("Launch", AttentionLaunch, ProjectionTiles)
_FOLDER = "SEQMLM_KERNEL_CACHE"
_logger = logging.getLogger("seqmlm_kernels")
# By key, device and the folder that the environment names: found before any path is made.
_launches: dict[tuple[LaunchKey | TilesKey, torch.device, str | None], Any] = {}


def is_tuning_enabled() -> bool:
    """Whether the environment asks for tuned launches."""
    return os.environ.get("SEQMLM_AUTOTUNE", "0") == "1"


def tuned_launch(key: LaunchKey, device: torch.device) -> AttentionLaunch | None:
    """The launch measured for ``key``, now if there is none yet; None within a CUDA graph.

    Raises:
        ValueError: a file of the cache cannot be read.
    """
    return _tuned(key, device, _attention_launch, _tune_attention)


def tuned_tiles(key: TilesKey, device: torch.device) -> ProjectionTiles | None:
    """The tiles measured for ``key``; the rest as `tuned_launch`."""
    return _tuned(key, device, _projection_tiles, _tune_projection)


def keep_launch(
    key: LaunchKey | TilesKey, device: torch.device, launch: AttentionLaunch | ProjectionTiles
) -> Path:
    """Write the launch for other processes, unless one of them was faster, and return its file.

    Nobody sees it half written. What cannot be written, as in a folder that is read-only, holds for
    this process alone.
    """
    path = _path(key, device)
    content = json.dumps({"key": str(key), "launch": asdict(launch)}, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _publish(content, path)
    except FileExistsError:
        return path
    except OSError as error:
        _logger.warning("%s cannot be written: each process measures anew (%s)", path, error)
    _launches[key, device, os.environ.get(_FOLDER)] = launch
    return path


def _publish(content: str, path: Path) -> None:
    """Make a file that is whole from the first."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
        file.write(content)
    try:
        os.chmod(file.name, 0o644)  # others may share the folder
        os.link(file.name, path)
    finally:
        os.unlink(file.name)


def _tuned(
    key: LaunchKey | TilesKey,
    device: torch.device,
    launch_of: Callable[[dict[str, Any]], Launch],
    tune: Callable[[Any, torch.device], object],
) -> Launch | None:
    name = (key, device, os.environ.get(_FOLDER))
    if name not in _launches:
        path = _path(key, device)
        if path.exists():
            _launches[name] = _read(path, str(key), launch_of)
        elif torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return None
        else:
            tune(key, device)
            if name not in _launches:  # another process was faster
                _launches[name] = _read(path, str(key), launch_of)
    found: Launch = _launches[name]
    return found


def _tune_attention(key: LaunchKey, device: torch.device) -> None:
    # Tuning launches kernels, whose launchers ask this module.
    from seqmlm_kernels.triton.tuning import tune

    tune(key, device)


def _tune_projection(key: TilesKey, device: torch.device) -> None:
    from seqmlm_kernels.triton.projection_tuning import tune_tiles

    tune_tiles(key, device)


def _path(key: LaunchKey | TilesKey, device: torch.device) -> Path:
    default = Path.home() / ".cache" / "seqmlm_kernels"
    folder = Path(os.environ.get(_FOLDER, default))
    name = "cpu" if device.type == "cpu" else torch.cuda.get_device_properties(device).name
    return folder / re.sub(r"[^A-Za-z0-9_.-]+", "_", name) / f"{key}.json"


def _read(path: Path, key: str, launch_of: Callable[[dict[str, Any]], Launch]) -> Launch:
    try:
        content = json.loads(path.read_text())
        launch = launch_of(content["launch"])
        if content["key"] != key:
            raise ValueError(f"it is of {content['key']}")
        return launch
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no launch ({error}); delete it to measure anew.") from error


def _attention_launch(kept: dict[str, Any]) -> AttentionLaunch:
    launch = AttentionLaunch(**kept)
    if launch.lengths != "any":
        raise ValueError(f"it leaves out sequences: lengths is {launch.lengths!r}")
    return launch


def _projection_tiles(kept: dict[str, Any]) -> ProjectionTiles:
    return ProjectionTiles(**{part: Tiles(**sizes) for part, sizes in kept.items()})
