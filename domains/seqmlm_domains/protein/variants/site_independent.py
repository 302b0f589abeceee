"""The site-independent model of a protein family: how often each residue stands at each site.

The bar that a model of whole sequences has to clear. Homologs are aligned to the wild type one by
one, weighted so that near-identical ones count once (80 % identity, Morcos et al. 2011,
https://doi.org/10.1073/pnas.1111471108), and counted with pseudocounts of the family's composition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm.data.report import ReadReport
from seqmlm.errors import DataError
from seqmlm_domains.protein.reader import read_records
from seqmlm_domains.protein.tokenizer import STANDARD_RESIDUES

NEIGHBOUR_IDENTITY: Final = 0.8
"""Of the sites of the wild type that both have, as a share of those that the homolog has."""

PSEUDOCOUNTS: Final = 5.0
"""At each site, in effective sequences. Between 2 and 20 little changes on TEM-1 beta-lactamase
(Spearman 0.559, 0.562, 0.562, 0.556 at 2, 5, 10 and 20)."""

DEFAULT_MAX_IDENTITY: Final = 0.95

# The penalties of BLASTP for BLOSUM62; ends are free, as homologs may be longer or shorter.
_OPEN_GAP, _EXTEND_GAP = -11.0, -1.0
_NO_RESIDUE: Final = len(STANDARD_RESIDUES)

SiteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class AlignedFamily:
    """Homologs at the sites of a wild type.

    Args:
        residues: uint8 ``[homologs, sites]``, positions in ``STANDARD_RESIDUES``; 20 for a gap or
            any other letter.
        left_out: homologs that were too close to the wild type.
    """

    residues: SiteArray
    left_out: int


@dataclass(frozen=True)
class SiteIndependentModel:
    """Residue frequencies at each site.

    Args:
        log_probabilities: float64 ``[sites, 20]``, nats, columns as in ``STANDARD_RESIDUES``.
        homologs: that were counted.
        effective_homologs: sum of their weights.
        left_out: homologs that were too close to the wild type.
    """

    log_probabilities: npt.NDArray[np.float64]
    homologs: int
    effective_homologs: float
    left_out: int

    def score(self, wild_type: str, substitutions: Sequence[tuple[int, str]]) -> float:
        """Return the sum of log p(mutant) - log p(wild type) over the sites, nats.

        Args:
            wild_type: one-letter codes.
            substitutions: index of each changed residue and its new letter, standard both.
        """
        rows = self.log_probabilities
        return float(
            sum(
                rows[site, STANDARD_RESIDUES.index(letter)]
                - rows[site, STANDARD_RESIDUES.index(wild_type[site])]
                for site, letter in substitutions
            )
        )


def fit_site_independent(
    wild_type: str, homologs: Sequence[str], *, max_identity: float = DEFAULT_MAX_IDENTITY
) -> SiteIndependentModel:
    """Align homologs to a wild type and count; about 2 ms for each of 300 residues.

    Args:
        wild_type: one-letter codes.
        homologs: FASTA or UniProt files. Where sequences hold ``-`` they are taken for an
            alignment in which the wild type is a row; lower-case letters and ``.`` are then
            insertions, as in A2M and A3M.
        max_identity: homologs at least so identical to the wild type are left out, as its own
            variants would be; above 1 none is.

    Raises:
        DataError: the files cannot be read, no homolog is left, or an alignment lacks the wild
            type.
    """
    family = align_homologs(wild_type, read_sequences(homologs), max_identity=max_identity)
    if not len(family.residues):
        raise DataError(
            f"{', '.join(homologs)}: all {family.left_out} homologs are at least {max_identity:.0%}"
            " identical to the wild type; none is left. Raise --max-identity or give remoter ones."
        )
    weights = sequence_weights(family.residues)
    counts = np.stack(
        [weights @ (family.residues == residue) for residue in range(_NO_RESIDUE)], axis=1
    )
    composition = counts.sum(axis=0) / max(counts.sum(), 1e-9)
    smoothed = counts + PSEUDOCOUNTS * (composition + 1e-4)
    return SiteIndependentModel(
        np.log(smoothed / smoothed.sum(axis=1, keepdims=True)),
        homologs=len(weights),
        effective_homologs=float(weights.sum()),
        left_out=family.left_out,
    )


def read_sequences(sources: Sequence[str]) -> list[str]:
    """Return the sequences of FASTA or UniProt files, as written.

    Raises:
        DataError: a file cannot be read or is empty.
    """
    return [record.content for record in read_records(sources, ReadReport())]


def align_homologs(
    wild_type: str, homologs: Sequence[str], *, max_identity: float
) -> AlignedFamily:
    """Return what homologs have at the sites of the wild type; see :func:`fit_site_independent`.

    Raises:
        DataError: they are an alignment without the wild type, or of unequal rows.
    """
    if any("-" in sequence for sequence in homologs):
        rows = _aligned_rows(wild_type, homologs)
    else:
        rows = _align_each(wild_type, [sequence.upper().rstrip("*") for sequence in homologs])
    codes = _codes([wild_type])[0]
    is_close = (rows == codes).mean(axis=1) >= max_identity
    return AlignedFamily(rows[~is_close], int(is_close.sum()))


def sequence_weights(residues: SiteArray) -> npt.NDArray[np.float64]:
    """Return 1 / number of homologs within :data:`NEIGHBOUR_IDENTITY`, itself included.

    Args:
        residues: uint8 ``[homologs, sites]``, as in :class:`AlignedFamily`.

    Returns:
        Float64 ``[homologs]``.
    """
    matches = np.zeros((len(residues), len(residues)), np.float32)
    for residue in range(_NO_RESIDUE):
        has = (residues == residue).astype(np.float32)
        matches += has @ has.T
    present = np.maximum((residues != _NO_RESIDUE).sum(axis=1), 1)
    neighbours = (matches / present[:, None] >= NEIGHBOUR_IDENTITY).sum(axis=1)
    weights: npt.NDArray[np.float64] = 1.0 / np.maximum(neighbours, 1)
    return weights


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
    rows = np.full((len(homologs), len(wild_type)), _NO_RESIDUE, np.uint8)
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
    return np.array([[code.get(letter, _NO_RESIDUE) for letter in row] for row in rows], np.uint8)
