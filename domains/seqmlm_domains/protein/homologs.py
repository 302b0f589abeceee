"""Relatives of a wild type: aligned to it, and told by how identical to it they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm.atomic_files import write_file
from seqmlm.data.report import ReadReport
from seqmlm.data.sources import find_files
from seqmlm.errors import ConfigError, DataError, RunFolderError
from seqmlm_domains.protein.reader import SUFFIXES, read_records
from seqmlm_domains.protein.tokenizer import STANDARD_RESIDUES

DEFAULT_MAX_IDENTITY: Final = 0.95
"""Above it, a homolog of a well-studied protein is mostly one of its own variants."""

NO_RESIDUE: Final = len(STANDARD_RESIDUES)

# The penalties of BLASTP for BLOSUM62; ends are free, as homologs may be longer or shorter.
_OPEN_GAP, _EXTEND_GAP = -11.0, -1.0

SiteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class HomologCounts:
    """What became of homologs.

    Args:
        written: remote enough from the wild type.
        left_out: too close to it.
        empty: without a residue.
    """

    written: int
    left_out: int
    empty: int


def write_remote_homologs(
    wild_type: str, sources: Sequence[str], output: Path, *, max_identity: float
) -> HomologCounts:
    """Write the records that are less identical to a wild type than ``max_identity`` as FASTA.

    Args:
        wild_type: one-letter codes.
        sources: files, folders, glob patterns, or ``-``.
        output: replaced if it exists; none of ``sources``.
        max_identity: in (0, 1].

    Raises:
        ConfigError: ``max_identity`` is out of range, or ``output`` is a source.
        DataError: a source cannot be used, or no record is left.
        RunFolderError: the output cannot be written.
    """
    if not 0 < max_identity <= 1:
        raise ConfigError(f"--max-identity {max_identity}: it is a share in (0, 1].")
    files = find_files(sources, ReadReport(), suffixes=SUFFIXES, noun="sequence")
    if output.resolve() in {Path(path).resolve() for path in files}:
        raise ConfigError(f"--output {output} is a file that is read: choose another name.")
    found = list(read_records(sources, ReadReport()))
    records = [record for record in found if _has_residues(record.content)]
    query = wild_type.upper().rstrip("*")
    rows = align_homologs(query, [record.content for record in records])
    is_remote = identities(query, rows) < max_identity
    if not is_remote.any():
        raise DataError(
            f"{', '.join(sources)}: all {len(records)} records are at least {max_identity:.0%} "
            "identical to the wild type; none is left. Raise --max-identity."
        )
    kept = [record for record, remote in zip(records, is_remote.tolist(), strict=True) if remote]
    text = "".join(f">{record.name}\n{record.content}\n" for record in kept)
    write_file(output, text, error=RunFolderError)
    return HomologCounts(len(kept), len(records) - len(kept), len(found) - len(records))


def read_sequences(sources: Sequence[str]) -> list[str]:
    """Return the sequences of FASTA or UniProt files, as written, but for empty ones.

    Raises:
        DataError: a file cannot be read or is empty.
    """
    records = read_records(sources, ReadReport())
    return [record.content for record in records if _has_residues(record.content)]


def align_homologs(wild_type: str, homologs: Sequence[str]) -> SiteArray:
    """Return what homologs have at the sites of a wild type; about 2 ms for each of 300 residues.

    Where sequences hold ``-`` they are taken for an alignment in which the wild type is a row;
    lower-case letters and ``.`` are then insertions, as in A2M and A3M. Otherwise each is aligned
    to the wild type from end to end.

    Args:
        wild_type: one-letter codes.
        homologs: as written.

    Returns:
        uint8 ``[homologs, sites]``, positions in ``STANDARD_RESIDUES``; 20 for a gap or any other
        letter.

    Raises:
        DataError: they are an alignment without the wild type, or of unequal rows.
    """
    if any("-" in sequence for sequence in homologs):
        return _aligned_rows(wild_type, homologs)
    return _align_each(wild_type, [sequence.upper().rstrip("*") for sequence in homologs])


def identities(wild_type: str, rows: SiteArray) -> npt.NDArray[np.float64]:
    """Return the share of the wild type's sites at which each homolog has the same residue.

    Args:
        wild_type: one-letter codes.
        rows: of :func:`align_homologs`.

    Returns:
        Float64 ``[homologs]``, in [0, 1].
    """
    shares: npt.NDArray[np.float64] = (rows == _codes([wild_type])[0]).mean(axis=1)
    return shares


def _has_residues(sequence: str) -> bool:
    return bool(sequence.strip("*-."))


def _aligned_rows(wild_type: str, homologs: Sequence[str]) -> SiteArray:
    """Rows of an alignment at the columns where the wild type has a residue."""
    rows = ["".join(x for x in row if not x.islower() and x != ".") for row in homologs]
    if len({len(row) for row in rows}) > 1:
        raise DataError(
            "The homologs hold '-', but without lower-case letters and '.' their rows differ in "
            "length: they are no alignment. Align them, or remove the gaps."
        )
    for row in rows:
        if row.replace("-", "") == wild_type:
            is_site = np.array([letter != "-" for letter in row])
            found: SiteArray = _codes(rows)[:, is_site]
            return found
    raise DataError(
        "The homologs are an alignment (they hold '-') in which no row is the wild type: add it, "
        "or remove the gaps and they will be aligned."
    )


def _align_each(wild_type: str, homologs: Sequence[str]) -> SiteArray:
    from Bio.Align import PairwiseAligner, substitution_matrices  # 0.3 s: only when aligning

    matrix = substitution_matrices.load("BLOSUM62")
    aligner = PairwiseAligner(
        mode="global",
        substitution_matrix=matrix,
        open_gap_score=_OPEN_GAP,
        extend_gap_score=_EXTEND_GAP,
        end_gap_score=0.0,
    )
    known = set(matrix.alphabet)
    rows = np.full((len(homologs), len(wild_type)), NO_RESIDUE, np.uint8)
    query = _spelt(wild_type, known)
    for row, sequence in zip(rows, homologs, strict=True):
        codes = _codes([sequence])[0]
        for (start, end), (first, last) in zip(
            *aligner.align(query, _spelt(sequence, known))[0].aligned, strict=True
        ):
            row[start:end] = codes[first:last]
    return rows


def _spelt(sequence: str, known: set[str]) -> str:
    """The sequence with X for letters that the substitution matrix does not know."""
    return "".join(letter if letter in known else "X" for letter in sequence)


def _codes(rows: Sequence[str]) -> SiteArray:
    code = {letter: index for index, letter in enumerate(STANDARD_RESIDUES)}
    return np.array([[code.get(letter, NO_RESIDUE) for letter in row] for row in rows], np.uint8)
