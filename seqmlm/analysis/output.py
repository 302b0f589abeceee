"""Results of an analysis on disk: JSON always, pictures where matplotlib is installed."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmlm.atomic_files import make_directory, write_file
from seqmlm.errors import RunFolderError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger("seqmlm")


def write_results(
    folder: Path,
    name: str,
    content: Mapping[str, Any],
    *,
    draw: Callable[[], Mapping[str, Figure]],
) -> list[Path]:
    """Write ``<name>.json`` and the pictures, each whole or not at all; replaces older ones.

    Without matplotlib (the ``plot`` extra) nothing is drawn and one log line says so.

    Args:
        folder: created if absent.
        name: of the JSON file, without suffix.
        content: plain JSON values without NaN.
        draw: returns the pictures by file name without suffix; called only if they can be drawn.

    Returns:
        The files written.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    make_directory(folder, error=RunFolderError)
    path = folder / f"{name}.json"
    write_file(path, json.dumps(content, indent=1, allow_nan=False) + "\n", error=RunFolderError)
    written = [path]
    if importlib.util.find_spec("matplotlib") is None:
        logger.info("no pictures: matplotlib is not installed (pip install 'seqmlm[plot]')")
        return written
    from seqmlm.analysis.pictures.style import to_png

    for picture, figure in draw().items():
        path = folder / f"{picture}.png"
        write_file(path, to_png(figure), error=RunFolderError)
        written.append(path)
    return written
