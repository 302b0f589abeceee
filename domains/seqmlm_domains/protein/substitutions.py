"""Which residues replace one another in evolution."""

from __future__ import annotations

from collections.abc import Iterator

from Bio.Align import substitution_matrices

from seqmlm_domains.protein.tokenizer import STANDARD_RESIDUES, VOCABULARY


def substitutions() -> Iterator[tuple[tuple[int], tuple[int], float]]:
    """Yield residue, another residue and its weight, for all 380 pairs of standard residues.

    The weight is 2 ** (S / 2), where S is the BLOSUM62 score in half-bits (Henikoff and Henikoff
    1992, https://doi.org/10.1073/pnas.89.22.10915, from Biopython): how much more often the pair
    is aligned in related proteins than by chance. Cysteine, glycine and proline have no partner
    above chance; with weights instead of a threshold they too have candidates.
    """
    matrix = substitution_matrices.load("BLOSUM62")
    for residue in STANDARD_RESIDUES:
        for other in STANDARD_RESIDUES:
            if other != residue:
                weight = 2.0 ** (float(matrix[residue, other]) / 2)
                yield (VOCABULARY.id_of(residue),), (VOCABULARY.id_of(other),), weight
