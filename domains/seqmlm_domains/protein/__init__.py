"""Proteins: FASTA and UniProt files, the ESM-2 token set, cluster-aware splits."""
