"""Proteins: FASTA and UniProt files, the ESM-2 token set, cluster-aware splits, variant scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqmlm_domains.protein.variants.scorer import VariantScorer

__all__ = ["VariantScorer"]


def __getattr__(name: str) -> Any:
    if name == "VariantScorer":
        from seqmlm_domains.protein.variants.scorer import VariantScorer

        return VariantScorer
    raise AttributeError(f"module 'seqmlm_domains.protein' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
