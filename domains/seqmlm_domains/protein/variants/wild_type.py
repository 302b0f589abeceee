"""Reads the protein that variants are told from."""

from __future__ import annotations

from pathlib import Path

from seqmlm.data.report import ReadReport
from seqmlm.domain import Record
from seqmlm.errors import DataError
from seqmlm_domains.protein.reader import read_records


def read_wild_type(path: Path) -> Record:
    """Return the one protein of a FASTA or UniProt file.

    Raises:
        DataError: the file cannot be read, or holds more than one.
    """
    records = list(read_records([path], ReadReport()))
    if len(records) != 1:
        raise DataError(
            f"{path} holds {len(records)} proteins; give a file with the wild type alone."
        )
    return records[0]
