"""Contact maps on disk: the best pairs as CSV, whole maps as NumPy arrays, the first as a PNG."""

from __future__ import annotations

import csv
import importlib.util
import logging
import math
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from seqmlm_domains.protein.contacts.prediction import ContactMap

PAIRS_FILE: Final = "contacts.csv"
MAPS_FILE: Final = "contacts.npz"
PICTURE_FILE: Final = "contacts.png"
MOST_DRAWN: Final = 6

_COLUMNS = ("name", "i", "j", "residue_i", "residue_j", "separation", "score")


def write_contacts(
    folder: Path, maps: Iterable[ContactMap], *, min_separation: int, per_residue: float
) -> Iterator[ContactMap]:
    """Write maps as they come and pass them on; memory is that of the few that are drawn.

    ``contacts.csv`` has the best pairs of each protein, residues counted from 1; ``contacts.npz``
    an array ``map_1``, ``map_2``, ... float32 ``[N, N]`` for each, and their ``names``. Without
    matplotlib there is no picture, and one log line says so.

    Args:
        folder: an empty one.
        maps: of any number of proteins.
        min_separation: residues from one of a listed pair to the other.
        per_residue: pairs listed, times the length of the protein.

    Yields:
        The maps, in order; the files are complete when they end.
    """
    names: list[str] = []
    drawn: list[ContactMap] = []
    with (
        (folder / PAIRS_FILE).open("w", encoding="utf-8", newline="") as table,
        zipfile.ZipFile(folder / MAPS_FILE, "w", zipfile.ZIP_DEFLATED) as arrays,
    ):
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for found in maps:
            names.append(found.name)
            if len(drawn) < MOST_DRAWN:
                drawn.append(found)
            most = math.ceil(per_residue * len(found.sequence))
            for i, j, score in found.best_pairs(min_separation=min_separation, most=most):
                residues = found.sequence[i], found.sequence[j]
                row = (found.name, i + 1, j + 1, *residues, j - i, f"{score:.6g}")
                writer.writerow(row)
            _add_array(arrays, f"map_{len(names)}", found.scores)
            yield found
        _add_array(arrays, "names", np.array(names))
    _draw(folder / PICTURE_FILE, drawn)


def _add_array(
    arrays: zipfile.ZipFile, name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
) -> None:
    """Add what ``numpy.load`` finds under ``name``; ``numpy.savez`` would need all at once."""
    with arrays.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, values, allow_pickle=False)


def _draw(path: Path, maps: list[ContactMap]) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        logging.getLogger("seqmlm").info(
            "no picture: matplotlib is not installed (pip install 'seqmlm[plot]')"
        )
        return
    from seqmlm.analysis.pictures.style import to_png
    from seqmlm_domains.protein.contacts.picture import draw_contacts

    path.write_bytes(to_png(draw_contacts(maps)))
